"""Modules over execution: any cell as a layer, and drop-ins for `torch.nn`'s."""

from unspool.layers._accelerate import accelerate as accelerate
from unspool.layers._accelerate import decelerate as decelerate
from unspool.layers._accelerate import is_scripted as is_scripted
from unspool.layers._accelerate import reason_against as reason_against
from unspool.layers._accelerated import AcceleratedGRU as AcceleratedGRU
from unspool.layers._accelerated import AcceleratedLSTM as AcceleratedLSTM
from unspool.layers._accelerated import AcceleratedRNN as AcceleratedRNN
from unspool.layers._accelerated import delegate_of as delegate_of
from unspool.layers._accelerated import lent_tensors as lent_tensors
from unspool.layers._base import RecurrentLayer as RecurrentLayer
from unspool.layers._bidirectional import Bidirectional as Bidirectional
from unspool.layers._cudnn import CuDNNGRU as CuDNNGRU
from unspool.layers._cudnn import CuDNNLSTM as CuDNNLSTM
from unspool.layers._gru import GRU as GRU
from unspool.layers._lstm import LSTM as LSTM
from unspool.layers._options import CellOptions as CellOptions
from unspool.layers._options import LayerOptions as LayerOptions
from unspool.layers._options import RunOptions as RunOptions
from unspool.layers._rnn import RNN as RNN
from unspool.layers._simple_rnn import SimpleRNN as SimpleRNN
