"""Data sets: one that the package ships, and one that it finds or fetches."""

from .japanese_vowels import SPEAKERS as SPEAKERS
from .japanese_vowels import load_japanese_vowels as load_japanese_vowels
from .mnist import DIGITS as DIGITS
from .mnist import load_mnist as load_mnist

__all__ = ["DIGITS", "SPEAKERS", "load_japanese_vowels", "load_mnist"]
