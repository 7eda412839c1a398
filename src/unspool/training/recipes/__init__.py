"""Recipes: every number of a training run, in one frozen object that a checkpoint carries."""

from ._recipe import Batching as Batching
from ._recipe import Execution as Execution
from ._recipe import LayerSpec as LayerSpec
from ._recipe import ModelName as ModelName
from ._recipe import Recipe as Recipe
from .chorales import chorales_recipe as chorales_recipe
from .digits import digits_recipe as digits_recipe
from .imdb import imdb_recipe as imdb_recipe
from .mnist import mnist_recipe as mnist_recipe
from .names import names_recipe as names_recipe
from .promoters import promoters_recipe as promoters_recipe
from .shakespeare import shakespeare_recipe as shakespeare_recipe
from .splice import splice_recipe as splice_recipe
from .text import text_recipe as text_recipe
from .vowels import vowels_recipe as vowels_recipe
