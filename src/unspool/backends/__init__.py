"""Who runs a cell over time."""

from unspool.backends._info import Info as Info
from unspool.backends._info import info as info
from unspool.backends._schedule import Schedule as Schedule
from unspool.backends.base import Backend as Backend
from unspool.backends.base import BackendError as BackendError
from unspool.backends.base import Call as Call
from unspool.backends.base import Result as Result
from unspool.backends.dispatch import Decision as Decision
from unspool.backends.dispatch import check_backend as check_backend
from unspool.backends.dispatch import is_recording as is_recording
from unspool.backends.dispatch import note as note
from unspool.backends.dispatch import recording as recording
from unspool.backends.dispatch import run as run
from unspool.backends.native import is_transformed as is_transformed
