"""Data sets: one is included in the package, the others are found or downloaded."""

from unspool.data.datasets.chorales import load_chorales as load_chorales
from unspool.data.datasets.dna import NUCLEOTIDES as NUCLEOTIDES
from unspool.data.datasets.dna import encode_nucleotides as encode_nucleotides
from unspool.data.datasets.dna import load_promoters as load_promoters
from unspool.data.datasets.dna import load_splice as load_splice
from unspool.data.datasets.imdb import SENTIMENTS as SENTIMENTS
from unspool.data.datasets.imdb import load_imdb as load_imdb
from unspool.data.datasets.imdb_texts import load_acl_imdb_texts as load_acl_imdb_texts
from unspool.data.datasets.imdb_texts import load_imdb_texts as load_imdb_texts
from unspool.data.datasets.imdb_texts import load_imdb_word_index as load_imdb_word_index
from unspool.data.datasets.japanese_vowels import SPEAKERS as SPEAKERS
from unspool.data.datasets.japanese_vowels import load_japanese_vowels as load_japanese_vowels
from unspool.data.datasets.mnist import DIGITS as DIGITS
from unspool.data.datasets.mnist import load_mnist as load_mnist
from unspool.data.datasets.names import NAME_CHARACTERS as NAME_CHARACTERS
from unspool.data.datasets.names import encode_names as encode_names
from unspool.data.datasets.names import load_names as load_names
from unspool.data.datasets.spoken_digits import load_spoken_digits as load_spoken_digits
from unspool.data.datasets.tiny_shakespeare import load_tiny_shakespeare as load_tiny_shakespeare
