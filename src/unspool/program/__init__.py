"""A cell's step as data: read once, checked, and run by an engine."""

from unspool.program.ir import Program as Program
from unspool.program.ir import Value as Value
from unspool.program.read import program as program
from unspool.program.source import TraceError as TraceError
