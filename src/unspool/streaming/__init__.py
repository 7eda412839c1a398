"""Models that run a step, or a chunk of steps, at a time and keep their state in between."""

from unspool.streaming._chain import parts_of as parts_of
from unspool.streaming._parts import Recurrent as Recurrent
from unspool.streaming._parts import Stepwise as Stepwise
from unspool.streaming._rows import Rows as Rows
from unspool.streaming._stream import Stream as Stream
from unspool.streaming._stream import stream as stream
