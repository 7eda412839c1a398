"""Read and batch sequences of different lengths: samplers that resume, collation, streams, texts and data sets.

This package is independent of any model. Importing it needs only torch and NumPy.

A padded batch has inputs of shape (B, T, I): B sequences, T steps, I features.
"""

from ._audio import frame_samples as frame_samples
from ._audio import log_mel as log_mel
from ._buckets import BucketBatchSampler as BucketBatchSampler
from ._buckets import SameLengthBatchSampler as SameLengthBatchSampler
from ._collate import SequenceBatch as SequenceBatch
from ._collate import collate as collate
from ._collate import pad_sequences as pad_sequences
from ._dataset import SequenceDataset as SequenceDataset
from ._errors import DataError as DataError
from ._errors import MissingDataError as MissingDataError
from ._files import read_sequences as read_sequences
from ._idx import read_idx as read_idx
from ._labelled_texts import LabelledTexts as LabelledTexts
from ._labelled_texts import check_text as check_text
from ._labelled_texts import read_labelled_texts as read_labelled_texts
from ._length_sampler import LengthBatchSampler as LengthBatchSampler
from ._loader import BatchLoader as BatchLoader
from ._ragged import RaggedBatch as RaggedBatch
from ._ragged import collate_ragged as collate_ragged
from ._ragged import ragged_from_padded as ragged_from_padded
from ._resumable import ResumableLoader as ResumableLoader
from ._resumable import ResumableSampler as ResumableSampler
from ._sampler import ResumableBatchSampler as ResumableBatchSampler
from ._split import grouped_split as grouped_split
from ._split import stratified_folds as stratified_folds
from ._split import stratified_split as stratified_split
from ._steps import StepBatch as StepBatch
from ._steps import StepLabelledDataset as StepLabelledDataset
from ._steps import collate_steps as collate_steps
from ._streams import StreamBatch as StreamBatch
from ._streams import StreamBatchSampler as StreamBatchSampler
from ._streams import StreamLoader as StreamLoader
from ._texts import read_texts as read_texts
from ._token_dataset import token_dataset as token_dataset
from ._tokenizer import TextTokenizer as TextTokenizer
from ._tokens import TokenDataset as TokenDataset
from ._ts import read_ts as read_ts
from .datasets import CharacterText as CharacterText
from .datasets import encode_names as encode_names
from .datasets import encode_nucleotides as encode_nucleotides
from .datasets import load_acl_imdb_texts as load_acl_imdb_texts
from .datasets import load_chorales as load_chorales
from .datasets import load_imdb as load_imdb
from .datasets import load_imdb_texts as load_imdb_texts
from .datasets import load_imdb_word_index as load_imdb_word_index
from .datasets import load_japanese_vowels as load_japanese_vowels
from .datasets import load_mnist as load_mnist
from .datasets import load_names as load_names
from .datasets import load_promoters as load_promoters
from .datasets import load_splice as load_splice
from .datasets import load_spoken_digits as load_spoken_digits
from .datasets import load_tiny_shakespeare as load_tiny_shakespeare
