"""Recipes: every number of a training run, in one frozen object that a checkpoint carries."""

from ._recipe import Batching as Batching
from ._recipe import Execution as Execution
from ._recipe import LayerSpec as LayerSpec
from ._recipe import ModelName as ModelName
from ._recipe import Recipe as Recipe
from .imdb import imdb_recipe as imdb_recipe
from .mnist import mnist_recipe as mnist_recipe
from .text import text_recipe as text_recipe
from .vowels import vowels_recipe as vowels_recipe
