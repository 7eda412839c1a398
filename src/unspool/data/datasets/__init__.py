"""Data sets: one is included in the package, the others are found or downloaded."""

from .chorales import load_chorales as load_chorales
from .dna import NUCLEOTIDES as NUCLEOTIDES
from .dna import encode_nucleotides as encode_nucleotides
from .dna import load_promoters as load_promoters
from .dna import load_splice as load_splice
from .imdb import SENTIMENTS as SENTIMENTS
from .imdb import load_imdb as load_imdb
from .imdb_texts import load_acl_imdb_texts as load_acl_imdb_texts
from .imdb_texts import load_imdb_texts as load_imdb_texts
from .imdb_texts import load_imdb_word_index as load_imdb_word_index
from .japanese_vowels import SPEAKERS as SPEAKERS
from .japanese_vowels import load_japanese_vowels as load_japanese_vowels
from .mnist import DIGITS as DIGITS
from .mnist import load_mnist as load_mnist
from .names import NAME_CHARACTERS as NAME_CHARACTERS
from .names import encode_names as encode_names
from .names import load_names as load_names
from .spoken_digits import load_spoken_digits as load_spoken_digits
from .tiny_shakespeare import CharacterText as CharacterText
from .tiny_shakespeare import load_tiny_shakespeare as load_tiny_shakespeare
