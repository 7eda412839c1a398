"""Training recipes on Lightning: fit, evaluate, predict. It needs the extra: ``pip install 'unspool[train]'``."""

from . import _extra as _extra
from .callbacks import RunRecord as RunRecord
from .callbacks import StepSeeds as StepSeeds
from .checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
from .data_modules import SequenceData as SequenceData
from .errors import RunError as RunError
from .evaluate import evaluate as evaluate
from .evaluate import load_module as load_module
from .generate import generate as generate
from .models import SequenceNetwork as SequenceNetwork
from .models import parameter_count as parameter_count
from .module import SequenceModule as SequenceModule
from .predict import predict as predict
from .recipes import LayerSpec as LayerSpec
from .recipes import Recipe as Recipe
from .recipes import chorales_recipe as chorales_recipe
from .recipes import digits_recipe as digits_recipe
from .recipes import imdb_recipe as imdb_recipe
from .recipes import mnist_recipe as mnist_recipe
from .recipes import names_recipe as names_recipe
from .recipes import promoters_recipe as promoters_recipe
from .recipes import shakespeare_recipe as shakespeare_recipe
from .recipes import splice_recipe as splice_recipe
from .recipes import text_recipe as text_recipe
from .recipes import vowels_recipe as vowels_recipe
from .results import Evaluation as Evaluation
from .results import Prediction as Prediction
from .results import RunResult as RunResult
from .run import fit as fit
from .run import is_main_process as is_main_process

__all__ = [
    "AtomicCheckpointIO",
    "Evaluation",
    "LayerSpec",
    "Prediction",
    "Recipe",
    "RunError",
    "RunRecord",
    "RunResult",
    "SequenceData",
    "SequenceModule",
    "SequenceNetwork",
    "StepSeeds",
    "chorales_recipe",
    "digits_recipe",
    "evaluate",
    "fit",
    "generate",
    "imdb_recipe",
    "is_main_process",
    "load_module",
    "mnist_recipe",
    "names_recipe",
    "parameter_count",
    "predict",
    "promoters_recipe",
    "shakespeare_recipe",
    "splice_recipe",
    "text_recipe",
    "vowels_recipe",
]
