"""Static against dynamic, measured: what it costs to build, to start, to run and to keep, here and in other libraries.

Importing it needs torch and NumPy only; `run_compare` and `comparison_tables` need rich.
"""

from ._compare import compare as compare
from ._errors import ComparisonError as ComparisonError
from ._form import faults_of_form as faults_of_form
from ._machine import busy as busy
from ._machine import describe_machine as describe_machine
from ._problem import spread_lengths as spread_lengths
from ._results import BatchingResult as BatchingResult
from ._results import Comparison as Comparison
from ._results import ContenderResult as ContenderResult
from ._results import LongerResult as LongerResult
from ._results import ModeResult as ModeResult
from ._results import ScalingResult as ScalingResult
from ._run import run_compare as run_compare
from ._settings import Settings as Settings
from ._settings import parse_steps as parse_steps
