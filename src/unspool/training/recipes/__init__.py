"""Recipes: every number of a training run, in one frozen object that a checkpoint carries."""

from unspool.training.recipes._recipe import Batching as Batching
from unspool.training.recipes._recipe import Execution as Execution
from unspool.training.recipes._recipe import LayerSpec as LayerSpec
from unspool.training.recipes._recipe import ModelName as ModelName
from unspool.training.recipes._recipe import Recipe as Recipe
from unspool.training.recipes.chorales import chorales_recipe as chorales_recipe
from unspool.training.recipes.digits import digits_recipe as digits_recipe
from unspool.training.recipes.imdb import imdb_recipe as imdb_recipe
from unspool.training.recipes.lm import lm_recipe as lm_recipe
from unspool.training.recipes.mnist import mnist_recipe as mnist_recipe
from unspool.training.recipes.names import names_recipe as names_recipe
from unspool.training.recipes.promoters import promoters_recipe as promoters_recipe
from unspool.training.recipes.sequences import sequences_recipe as sequences_recipe
from unspool.training.recipes.shakespeare import shakespeare_recipe as shakespeare_recipe
from unspool.training.recipes.splice import splice_recipe as splice_recipe
from unspool.training.recipes.tags import tags_recipe as tags_recipe
from unspool.training.recipes.text import text_recipe as text_recipe
from unspool.training.recipes.vowels import vowels_recipe as vowels_recipe
