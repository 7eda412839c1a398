"""Convert weights: PyTorch, Keras 3, TensorFlow 1, Flax, Haiku, and safetensors files. Nothing is ever unpickled.

Files need the extra: ``pip install 'unspool[interop]'``. The other libraries themselves are not needed.
"""

from unspool.interop._flax import from_flax as from_flax
from unspool.interop._flax import to_flax as to_flax
from unspool.interop._from_keras import from_keras as from_keras
from unspool.interop._haiku import from_haiku as from_haiku
from unspool.interop._haiku import to_haiku as to_haiku
from unspool.interop._keras_file import KerasFile as KerasFile
from unspool.interop._keras_file import load_keras as load_keras
from unspool.interop._safetensors import load as load
from unspool.interop._safetensors import save as save
from unspool.interop._tensorflow1 import from_tensorflow1 as from_tensorflow1
from unspool.interop._tensorflow1 import to_tensorflow1 as to_tensorflow1
from unspool.interop._to_keras import KerasLayer as KerasLayer
from unspool.interop._to_keras import to_keras as to_keras
from unspool.interop._torch_nn import from_torch as from_torch
from unspool.interop._torch_nn import to_torch as to_torch
