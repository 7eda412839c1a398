"""Data sets: one that the package ships, and those that it finds or fetches."""

from .imdb import SENTIMENTS as SENTIMENTS
from .imdb import load_imdb as load_imdb
from .japanese_vowels import SPEAKERS as SPEAKERS
from .japanese_vowels import load_japanese_vowels as load_japanese_vowels
from .mnist import DIGITS as DIGITS
from .mnist import load_mnist as load_mnist

__all__ = ["DIGITS", "SENTIMENTS", "SPEAKERS", "load_imdb", "load_japanese_vowels", "load_mnist"]
