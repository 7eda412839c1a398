"""Training recipes on Lightning: fit, evaluate, predict. It needs the extra: ``pip install 'unspool[train]'``."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from unspool import _startup

if not _TYPE_CHECKING and _startup.waits(__name__):
    __getattr__ = _startup.later(__name__)
else:
    from unspool.training import _extra as _extra
    from unspool.training.callbacks import RunRecord as RunRecord
    from unspool.training.callbacks import StepSeeds as StepSeeds
    from unspool.training.checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
    from unspool.training.data_modules import SequenceData as SequenceData
    from unspool.training.errors import RunError as RunError
    from unspool.training.evaluate import evaluate as evaluate
    from unspool.training.evaluate import load_module as load_module
    from unspool.training.export import export as export
    from unspool.training.generate import generate as generate
    from unspool.training.models import SequenceNetwork as SequenceNetwork
    from unspool.training.models import parameter_count as parameter_count
    from unspool.training.module import SequenceModule as SequenceModule
    from unspool.training.predict import predict as predict
    from unspool.training.recipes import LayerSpec as LayerSpec
    from unspool.training.recipes import Recipe as Recipe
    from unspool.training.recipes import chorales_recipe as chorales_recipe
    from unspool.training.recipes import digits_recipe as digits_recipe
    from unspool.training.recipes import imdb_recipe as imdb_recipe
    from unspool.training.recipes import lm_recipe as lm_recipe
    from unspool.training.recipes import mnist_recipe as mnist_recipe
    from unspool.training.recipes import names_recipe as names_recipe
    from unspool.training.recipes import promoters_recipe as promoters_recipe
    from unspool.training.recipes import sequences_recipe as sequences_recipe
    from unspool.training.recipes import shakespeare_recipe as shakespeare_recipe
    from unspool.training.recipes import splice_recipe as splice_recipe
    from unspool.training.recipes import tags_recipe as tags_recipe
    from unspool.training.recipes import text_recipe as text_recipe
    from unspool.training.recipes import vowels_recipe as vowels_recipe
    from unspool.training.results import Evaluation as Evaluation
    from unspool.training.results import Prediction as Prediction
    from unspool.training.results import RunResult as RunResult
    from unspool.training.run import fit as fit
    from unspool.training.run import is_main_process as is_main_process
