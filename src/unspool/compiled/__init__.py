"""Runs inside of `torch.compile`: each becomes one operator of the graph.

`_door` lets a run through or sends it to `_tracing`, which puts a call of the operator into the graph that is being
traced; `_operator` is what such a call does when the graph is executed, and `_plans` what it knows by then.
"""

from unspool.compiled._door import Layout as Layout
from unspool.compiled._door import in_graphs as in_graphs
from unspool.compiled._door import tensors_of as tensors_of
from unspool.compiled._door import undisturbed as undisturbed
from unspool.compiled._operator import with_tensors as with_tensors
