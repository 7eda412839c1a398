"""One time step: the cells, and the contract that makes any module a cell. Nothing here knows of time."""

from unspool.cells._activations import ACTIVATIONS as ACTIVATIONS
from unspool.cells._activations import activation as activation
from unspool.cells._builtin import BuiltinCell as BuiltinCell
from unspool.cells._contract import Cell as Cell
from unspool.cells._contract import LSTMState as LSTMState
from unspool.cells._contract import autocasts as autocasts
from unspool.cells._contract import initial_state_of as initial_state_of
from unspool.cells._contract import is_cell as is_cell
from unspool.cells._contract import match_state as match_state
from unspool.cells._contract import require_cell as require_cell
from unspool.cells._contract import row_inputs_of as row_inputs_of
from unspool.cells._contract import size_of as size_of
from unspool.cells._dropout import DropoutCell as DropoutCell
from unspool.cells._gru import GRUCell as GRUCell
from unspool.cells._initializers import initialize as initialize
from unspool.cells._lstm import LSTMCell as LSTMCell
from unspool.cells._masks import check_probability as check_probability
from unspool.cells._simple_rnn import SimpleRNNCell as SimpleRNNCell
from unspool.cells._skip import HighwayCell as HighwayCell
from unspool.cells._skip import ResidualCell as ResidualCell
from unspool.cells._stacked import StackedRNNCells as StackedRNNCells
from unspool.cells._step import beside as beside
from unspool.cells._step import held_tensors as held_tensors
from unspool.cells._step import require_constants_taken as require_constants_taken
from unspool.cells._step import step as step
from unspool.cells._zoneout import ZoneoutCell as ZoneoutCell
