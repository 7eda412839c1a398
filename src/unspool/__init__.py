"""Write one time step in plain PyTorch, run it over any sequences."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from unspool import _startup

if not _TYPE_CHECKING and _startup.waits(__name__):
    __getattr__ = _startup.later(__name__)
else:
    from unspool._ragged import RaggedBatch as RaggedBatch
    from unspool.backends import BackendError as BackendError
    from unspool.backends import VerificationError as VerificationError
    from unspool.backends import info as info
    from unspool.backends import verified as verified
    from unspool.cells import Cell as Cell
    from unspool.cells import DropoutCell as DropoutCell
    from unspool.cells import GRUCell as GRUCell
    from unspool.cells import HighwayCell as HighwayCell
    from unspool.cells import LSTMCell as LSTMCell
    from unspool.cells import LSTMState as LSTMState
    from unspool.cells import ResidualCell as ResidualCell
    from unspool.cells import SimpleRNNCell as SimpleRNNCell
    from unspool.cells import StackedRNNCells as StackedRNNCells
    from unspool.cells import ZoneoutCell as ZoneoutCell
    from unspool.execution import bidirectional_dynamic_rnn as bidirectional_dynamic_rnn
    from unspool.execution import dynamic_rnn as dynamic_rnn
    from unspool.execution import explain as explain
    from unspool.execution import raw_rnn as raw_rnn
    from unspool.execution import stack_bidirectional_dynamic_rnn as stack_bidirectional_dynamic_rnn
    from unspool.execution import static_bidirectional_rnn as static_bidirectional_rnn
    from unspool.execution import static_rnn as static_rnn
    from unspool.exporting import export_onnx as export_onnx
    from unspool.layers import GRU as GRU
    from unspool.layers import LSTM as LSTM
    from unspool.layers import RNN as RNN
    from unspool.layers import Bidirectional as Bidirectional
    from unspool.layers import CuDNNGRU as CuDNNGRU
    from unspool.layers import CuDNNLSTM as CuDNNLSTM
    from unspool.layers import SimpleRNN as SimpleRNN
    from unspool.layers import accelerate as accelerate
    from unspool.layers import decelerate as decelerate
    from unspool.streaming import Stream as Stream
    from unspool.streaming import stream as stream

    # Last: these functions take the places of the subpackages' names, whose modules are imported by their full names.
    from unspool.doctor import doctor as doctor  # isort: skip
    from unspool.program import program as program  # isort: skip
