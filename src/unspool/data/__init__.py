"""Read and batch sequences of different lengths: samplers that resume, collation, streams, texts and data sets.

This package is independent of any model. Importing it needs only torch and NumPy.

A padded batch has inputs of shape (B, T, I): B sequences, T steps, I features.
"""

from unspool.data._audio import frame_samples as frame_samples
from unspool.data._audio import log_mel as log_mel
from unspool.data._audio import mel_filters as mel_filters
from unspool.data._buckets import BucketBatchSampler as BucketBatchSampler
from unspool.data._buckets import SameLengthBatchSampler as SameLengthBatchSampler
from unspool.data._buckets import bucket_boundaries as bucket_boundaries
from unspool.data._collate import SequenceBatch as SequenceBatch
from unspool.data._collate import StepBatch as StepBatch
from unspool.data._collate import StepSample as StepSample
from unspool.data._collate import collate as collate
from unspool.data._collate import pad_sequences as pad_sequences
from unspool.data._collate import sequence_mask as sequence_mask
from unspool.data._dataset import SequenceDataset as SequenceDataset
from unspool.data._errors import DataError as DataError
from unspool.data._errors import MissingDataError as MissingDataError
from unspool.data._files import read_sequences as read_sequences
from unspool.data._idx import read_idx as read_idx
from unspool.data._labelled_texts import LabelledTexts as LabelledTexts
from unspool.data._labelled_texts import check_text as check_text
from unspool.data._labelled_texts import read_labelled_texts as read_labelled_texts
from unspool.data._length_sampler import LengthBatchSampler as LengthBatchSampler
from unspool.data._loader import BatchLoader as BatchLoader
from unspool.data._ragged import RaggedBatch as RaggedBatch
from unspool.data._ragged import collate_ragged as collate_ragged
from unspool.data._ragged import ragged_from_padded as ragged_from_padded
from unspool.data._resumable import ResumableLoader as ResumableLoader
from unspool.data._resumable import ResumableSampler as ResumableSampler
from unspool.data._sampler import ResumableBatchSampler as ResumableBatchSampler
from unspool.data._scaling import Scaling as Scaling
from unspool.data._sequences import Sequences as Sequences
from unspool.data._sequences import counts_of as counts_of
from unspool.data._source import read_source as read_source
from unspool.data._split import grouped_split as grouped_split
from unspool.data._split import split_by_time as split_by_time
from unspool.data._split import split_sequences as split_sequences
from unspool.data._split import stratified_folds as stratified_folds
from unspool.data._split import stratified_split as stratified_split
from unspool.data._steps import StepLabelledDataset as StepLabelledDataset
from unspool.data._streams import StreamBatch as StreamBatch
from unspool.data._streams import StreamBatchSampler as StreamBatchSampler
from unspool.data._streams import StreamLoader as StreamLoader
from unspool.data._table import read_table as read_table
from unspool.data._texts import read_texts as read_texts
from unspool.data._times import TimeStep as TimeStep
from unspool.data._times import check_regular as check_regular
from unspool.data._times import fill_gaps as fill_gaps
from unspool.data._token_dataset import token_dataset as token_dataset
from unspool.data._tokenizer import TextTokenizer as TextTokenizer
from unspool.data._tokens import TokenDataset as TokenDataset
from unspool.data._ts import read_ts as read_ts
from unspool.data._tsf import read_tsf as read_tsf
from unspool.data.datasets import CharacterText as CharacterText
from unspool.data.datasets import encode_names as encode_names
from unspool.data.datasets import encode_nucleotides as encode_nucleotides
from unspool.data.datasets import load_acl_imdb_texts as load_acl_imdb_texts
from unspool.data.datasets import load_chorales as load_chorales
from unspool.data.datasets import load_imdb as load_imdb
from unspool.data.datasets import load_imdb_texts as load_imdb_texts
from unspool.data.datasets import load_imdb_word_index as load_imdb_word_index
from unspool.data.datasets import load_japanese_vowels as load_japanese_vowels
from unspool.data.datasets import load_mnist as load_mnist
from unspool.data.datasets import load_names as load_names
from unspool.data.datasets import load_promoters as load_promoters
from unspool.data.datasets import load_splice as load_splice
from unspool.data.datasets import load_spoken_digits as load_spoken_digits
from unspool.data.datasets import load_tiny_shakespeare as load_tiny_shakespeare
