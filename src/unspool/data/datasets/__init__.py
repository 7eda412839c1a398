"""Data sets: one that the package ships, and those that it finds or fetches."""

from .imdb import SENTIMENTS as SENTIMENTS
from .imdb import load_imdb as load_imdb
from .imdb_texts import load_acl_imdb_texts as load_acl_imdb_texts
from .imdb_texts import load_imdb_texts as load_imdb_texts
from .imdb_texts import load_imdb_word_index as load_imdb_word_index
from .japanese_vowels import SPEAKERS as SPEAKERS
from .japanese_vowels import load_japanese_vowels as load_japanese_vowels
from .mnist import DIGITS as DIGITS
from .mnist import load_mnist as load_mnist

__all__ = [
    "DIGITS",
    "SENTIMENTS",
    "SPEAKERS",
    "load_acl_imdb_texts",
    "load_imdb",
    "load_imdb_texts",
    "load_imdb_word_index",
    "load_japanese_vowels",
    "load_mnist",
]
