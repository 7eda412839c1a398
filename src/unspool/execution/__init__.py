"""The contract of running a cell over time: lengths, masks, resets, directions, states."""

from unspool.execution._again import Again as Again
from unspool.execution._again import again as again
from unspool.execution._again import how_to_repeat as how_to_repeat
from unspool.execution._again import remember as remember
from unspool.execution._arguments import BoolArray as BoolArray
from unspool.execution._arguments import IntArray as IntArray
from unspool.execution._arguments import as_tensor as as_tensor
from unspool.execution._batch import Steps as Steps
from unspool.execution._batch import in_form_of as in_form_of
from unspool.execution._batch import longest as longest
from unspool.execution._batch import make_schedule as make_schedule
from unspool.execution._batch import ragged_inputs as ragged_inputs
from unspool.execution._batch import ragged_schedule as ragged_schedule
from unspool.execution._batch import refuse_in_traces as refuse_in_traces
from unspool.execution._batch import simplified as simplified
from unspool.execution._batch import states_at_resets as states_at_resets
from unspool.execution._batch import time_major_inputs as time_major_inputs
from unspool.execution._bidirectional import bidirectional_dynamic_rnn as bidirectional_dynamic_rnn
from unspool.execution._bidirectional import (
    stack_bidirectional_dynamic_rnn as stack_bidirectional_dynamic_rnn,
)
from unspool.execution._bidirectional import static_bidirectional_rnn as static_bidirectional_rnn
from unspool.execution._explain import Explanation as Explanation
from unspool.execution._explain import explain as explain
from unspool.execution._ragged import map_values as map_values
from unspool.execution._ragged import packed_like as packed_like
from unspool.execution._ragged import ragged_of_packed as ragged_of_packed
from unspool.execution._ragged import take_rows_of as take_rows_of
from unspool.execution._raw import raw_rnn as raw_rnn
from unspool.execution._run import check_pad_output as check_pad_output
from unspool.execution._run import dynamic_rnn as dynamic_rnn
from unspool.execution._run import run_cell as run_cell
from unspool.execution._run import start_of as start_of
from unspool.execution._run import static_rnn as static_rnn
