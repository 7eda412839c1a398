"""Steps that read tensors, which change: in place, past autograd, replaced, frozen, tied, of another dtype."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import unspool as us
from tests.trust.worlds import FEATURES, H, Made, Small, World, case


class Scaled(Small):
    """Multiplies the state by a tensor that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain: Tensor = torch.linspace(0.5, 1.5, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.mix(x, h) * self.gain
        return h, h


@case()
def a_tensor_written_in_place() -> Made:
    cell = Scaled()
    return cell, lambda: cell.gain.mul_(3), lambda: cell.gain[0].zero_(), lambda: cell.gain.fill_(2.0)


@case()
def a_tensor_written_past_the_count_of_versions() -> Made:
    cell = Scaled()

    def by_numpy() -> None:
        cell.gain.numpy()[1] = 7.0

    return cell, lambda: cell.gain.data.mul_(3), lambda: cell.gain.detach().fill_(1.0), by_numpy


@case()
def a_tensor_replaced() -> Made:
    cell = Scaled()
    return (
        cell,
        lambda: setattr(cell, "gain", torch.full((H,), 3.0)),
        lambda: setattr(cell, "gain", torch.tensor(0.5)),
        lambda: setattr(cell, "gain", torch.rand(H)),
    )


@case()
def a_tensor_that_is_replaced_before_every_run() -> Made:
    cell = Scaled()
    return World(cell, start=lambda rows: setattr(cell, "gain", torch.rand(H)))


@case()
def a_tensor_that_gets_a_gradient() -> Made:
    cell = Scaled()

    def clear(rows: int) -> None:
        cell.gain.grad = None

    return World(cell, [lambda: cell.gain.requires_grad_(True), lambda: cell.gain.requires_grad_(False)], start=clear)


@case()
def a_leaf_of_the_user_in_a_list() -> Made:
    gains = [torch.rand(H).requires_grad_(), torch.rand(H)]

    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * sum(gains)
            return h, h

    def clear(rows: int) -> None:
        gains[0].grad = None

    return World(Cell(), [lambda: gains.append(torch.rand(H))], start=clear, watch=lambda: gains)


@case()
def a_number_kept_as_a_tensor() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.beta = torch.tensor(1.0)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * self.beta.item() if self.beta > 0.5 else 0.1 * h
            return h, h

    cell = Cell()
    return cell, lambda: cell.beta.fill_(2.0), lambda: cell.beta.data.fill_(0.0)


@case(native=True)
def a_buffer_written_and_replaced() -> Made:
    class Cell(Small):
        gain: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.ones(H))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * self.gain
            return h, h

    cell = Cell()
    return (
        cell,
        lambda: cell.gain.fill_(2.0),
        lambda: cell.gain.data.add_(torch.arange(H)),
        lambda: setattr(cell, "gain", torch.rand(H)),
        lambda: setattr(cell, "gain", torch.zeros(H)),
    )


@case()
def a_mask_of_booleans_and_indices_in_buffers() -> Made:
    class Cell(Small):
        keep: Tensor
        order: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("keep", torch.tensor([True, False, True, True]))
            self.register_buffer("order", torch.tensor([2, 0, 1, 3]))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.where(self.keep, self.mix(x, h), 0.5 * h)[:, self.order]
            return h, h

    cell = Cell()
    return cell, lambda: cell.keep.logical_not_(), lambda: cell.order.copy_(torch.arange(H))


@case(native=True)
def parameters_written_by_data() -> Made:
    cell = Small()
    return cell, lambda: cell.lin.weight.data.mul_(2), lambda: cell.lin.bias.data.fill_(0.3)


@case(native=True)
def parameters_replaced() -> Made:
    cell = Small()
    return (
        cell,
        lambda: setattr(cell.lin, "weight", nn.Parameter(torch.randn(H, FEATURES + H))),
        lambda: setattr(cell.lin, "bias", None),
        lambda: setattr(cell.lin, "bias", nn.Parameter(torch.rand(H))),
        lambda: setattr(cell.lin.weight, "data", torch.randn(H, FEATURES + H)),
    )


@case(native=True)
def a_loaded_state_dict() -> Made:
    cell, other = Small(), Small()
    return (
        cell,
        lambda: cell.load_state_dict(other.state_dict()),
        lambda: cell.load_state_dict(copy.deepcopy(Small().state_dict()), assign=True),
    )


@case(native=True)
def parameters_tied_and_untied() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(H, H, bias=False), nn.Linear(H, H, bias=False)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.sigmoid(self.a(h)) * self.mix(x, h) + self.b(h).relu()
            return h, h

    cell = Cell()
    return (
        cell,
        lambda: setattr(cell.b, "weight", cell.a.weight),
        lambda: setattr(cell.b, "weight", nn.Parameter(torch.rand(H, H))),
    )


@case(native=True)
def parameters_kept_in_a_dict_too() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.shortcut: dict[str, Any] = {"w": self.lin.weight, "b": self.lin.bias}

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(nn.functional.linear(torch.cat([x, h], 1), self.shortcut["w"], self.shortcut["b"]))
            return h, h

    cell = Cell()
    return cell, lambda: cell.shortcut["w"].data.mul_(2), lambda: cell.shortcut.update(b=torch.ones(H))


@case()
def a_parameter_of_another_module() -> Made:
    embedding = nn.Embedding(5, H)

    class Cell(Small):
        def __init__(self, weight: Tensor) -> None:
            super().__init__()
            self.shared = (weight,)  # in a tuple, so that it is no parameter of the cell

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) + self.shared[0].mean(0)
            return h, h

    return World(
        Cell(embedding.weight),
        [lambda: embedding.weight.data.mul_(3), lambda: embedding.weight.requires_grad_(False)],
        start=lambda rows: embedding.zero_grad(),
        watch=lambda: embedding,
    )


@case(native=True)
def parametrizations_that_come_and_go() -> Made:
    cell = Small()
    return (
        cell,
        lambda: parametrizations.weight_norm(cell.lin),
        lambda: parametrize.remove_parametrizations(cell.lin, "weight"),
        lambda: parametrizations.orthogonal(cell.lin),
    )


@case()
def spectral_norm() -> Made:  # its power iteration writes into buffers in training
    cell = Small()
    parametrizations.spectral_norm(cell.lin)
    return cell, cell.eval, cell.train


@case()
def spectral_norm_by_hooks() -> Made:
    cell = Small()
    torch.nn.utils.spectral_norm(cell.lin, n_power_iterations=2)
    return cell, cell.eval


@case()
def a_parametrization_with_a_setting() -> Made:
    class Scale(nn.Module):
        factor = 1.0

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.factor

    cell, scale = Small(), Scale()
    parametrize.register_parametrization(cell.lin, "weight", scale)
    return cell, lambda: setattr(scale, "factor", 3.0)


@case(native=True)
def another_dtype() -> Made:
    cell = Small()
    return cell, cell.double, cell.float


@case()
def short_floats() -> Made:
    cell = Small()
    return cell, cell.bfloat16, cell.float


@case()
def a_sparse_mask() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.graph = (torch.rand(H, H) > 0.5).float().to_sparse()

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.sparse.mm(self.graph, self.mix(x, h).t()).t()
            return h, h

    cell = Cell()
    return cell, lambda: setattr(cell, "graph", torch.eye(H).to_sparse())


@case(native=True)
def built_in_cells_in_a_stack_of_which_one_is_replaced() -> Made:
    cell: Any = us.StackedRNNCells([us.GRUCell(FEATURES, H), us.GRUCell(H, H)])

    def change() -> None:
        cell.cells[1] = us.GRUCell(H, H)

    return cell, change


@case()
def a_parameter_read_by_its_values() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.order = nn.Parameter(torch.rand(H))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)[:, self.order.argsort()] * self.order.max()
            return h, h

    cell = Cell()
    return cell, lambda: cell.order.data.copy_(torch.rand(H)), lambda: cell.order.data.copy_(torch.rand(H))


@case()
def branches_on_a_parameter() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h) * self.gate if self.gate > 0 else 0.5 * h
            return h, h

    cell = Cell()
    return cell, lambda: cell.gate.data.fill_(-1.0), lambda: cell.gate.data.fill_(2.0)


@case(refused="in a batch of 1 than in a batch of")
def one_row_is_a_case_of_its_own() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            return (h, 2 * h) if x.shape[0] == 1 else (h, h)

    return Cell()


@case(refused="in a batch of [123] than in a batch of")
def few_rows_are_computed_otherwise_than_many() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            h = 0.5 * h if len(x) > 2 else h
            return h, h

    return Cell()


@case(refused="in a batch of [1234] than in a batch of")
def many_rows_are_computed_otherwise_than_few() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h)
            h = 3 * h if h.size(0) >= 40 else h
            return h, h

    return Cell()
