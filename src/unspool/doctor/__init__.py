"""Telling of a whole model what runs each recurrent part of it, what holds that up, and what one line would change."""

from unspool.doctor._diagnosis import Diagnosis as Diagnosis
from unspool.doctor._diagnosis import Finding as Finding
from unspool.doctor._diagnosis import Timing as Timing
from unspool.doctor._doctor import doctor as doctor
from unspool.doctor._padding import Padding as Padding
from unspool.doctor._sample import SampleError as SampleError
