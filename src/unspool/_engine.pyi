from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

interface: int
names: dict[str, list[str]]

class Plan: ...

class Layout:
    def __init__(
        self,
        tokens: int,
        rows: int,
        row_start: NDArray[Any],
        counts: NDArray[Any],
        offsets: NDArray[Any],
        times: NDArray[Any],
        sequences: NDArray[Any],
    ) -> None: ...

class Workspace: ...

def accept(tensor: type[Tensor]) -> None: ...
def make_plan(
    storages: NDArray[Any],
    instructions: NDArray[Any],
    constants: Sequence[float],
    indices: Sequence[int],
    arrays: Sequence[int],
    weights: Sequence[tuple[int, bool, int, int]],
    backward: bool,
) -> Plan: ...
def run_f32(
    plan: Plan,
    layout: Layout,
    tensors: list[Tensor],
    threads: int,
    workspace: Workspace | None = None,
    one_step: bool = False,
) -> None: ...
def run_f64(
    plan: Plan,
    layout: Layout,
    tensors: list[Tensor],
    threads: int,
    workspace: Workspace | None = None,
    one_step: bool = False,
) -> None: ...
def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def measure_peak_gflops(seconds: float) -> float: ...
