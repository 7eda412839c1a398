"""Static against dynamic, measured: what it costs to build, to start, to run and to keep, here and in other libraries.

Importing it needs torch and NumPy only; `run_compare` and `comparison_tables` need rich.
"""

from unspool.comparison._compare import compare as compare
from unspool.comparison._errors import ComparisonError as ComparisonError
from unspool.comparison._form import faults_of_form as faults_of_form
from unspool.comparison._machine import busy as busy
from unspool.comparison._machine import describe_machine as describe_machine
from unspool.comparison._problem import spread_lengths as spread_lengths
from unspool.comparison._results import BatchingResult as BatchingResult
from unspool.comparison._results import Comparison as Comparison
from unspool.comparison._results import ContenderResult as ContenderResult
from unspool.comparison._results import LongerResult as LongerResult
from unspool.comparison._results import ModeResult as ModeResult
from unspool.comparison._results import ScalingResult as ScalingResult
from unspool.comparison._run import run_compare as run_compare
from unspool.comparison._settings import Settings as Settings
from unspool.comparison._settings import parse_steps as parse_steps
