"""Steps whose gradient is not that of their values: hooks, functions of autograd, detached parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import unspool as us
from tests.trust.worlds import FEATURES, H, Made, Small, World, case


class After(Small):
    """Gives the state to `after`."""

    def after(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.after(self.mix(x, h))
        return h, h


@case(refused="register_hook")
def clips_derivatives_by_a_hook() -> Made:  # Graves (2013)
    class Clipped(us.Cell):
        limit = 10.0

        def __init__(self) -> None:
            super().__init__((H, H))
            self.lstm = nn.LSTMCell(FEATURES, H)

        def clip(self, derivative: Tensor) -> Tensor:
            return derivative.clamp(-self.limit, self.limit)

        def forward(self, x: Tensor, state: Any) -> Any:
            h, c = self.lstm(x, state)
            if h.requires_grad:
                h.register_hook(self.clip)
            return h, (h, c)

    cell = Clipped()
    return cell, lambda: setattr(cell, "limit", 0.1)


@case()
def scales_derivatives_by_a_hook_that_does_so_from_a_size_on() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                h.register_hook(lambda g: g * 0.5 if float(g.abs().max()) > 100 else None)
            return h

    return Cell()


@case()
def writes_down_the_norms_of_derivatives() -> Made:
    class Cell(After):
        def __init__(self) -> None:
            super().__init__()
            self.norms: list[Tensor] = []

        def after(self, h: Tensor) -> Tensor:
            if h.requires_grad:
                h.register_hook(lambda g: self.norms.append(g.norm()))
            return h

    return Cell()


@case()
def keeps_the_derivative_of_its_last_state() -> Made:
    class Cell(After):
        last: Tensor | None = None

        def after(self, h: Tensor) -> Tensor:
            if h.requires_grad:
                h.retain_grad()
            self.last = h
            return h

    cell = Cell()
    return World(cell, watch=lambda: None if cell.last is None else cell.last.grad)


@case()
def masks_the_derivative_of_a_parameter() -> Made:
    cell = Small()
    mask = torch.ones_like(cell.lin.weight)
    mask[:, ::2] = 0
    handles: list[Any] = []
    return World(
        cell,
        [lambda: handles.append(cell.lin.weight.register_hook(lambda g: g * mask)), lambda: handles[0].remove()],
    )


@case()
def a_parameter_tells_when_its_derivative_is_there() -> Made:
    seen: list[float] = []
    cell = Small()
    cell.lin.weight.register_post_accumulate_grad_hook(lambda p: seen.append(len(p)))
    return World(cell, watch=lambda: seen)


class ClipGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return h.view_as(h)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return g.clamp(-ctx.limit, ctx.limit), None


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return (h > 0).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return g


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return h.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:  # type: ignore[override]
        return -ctx.factor * g, None


@case(refused="ClipGradient")
def clips_derivatives_by_a_function() -> Made:
    class Cell(After):
        limit = 10.0

        def after(self, h: Tensor) -> Tensor:
            return ClipGradient.apply(h, self.limit)  # type: ignore[return-value]

    cell = Cell()
    return cell, lambda: setattr(cell, "limit", 0.1)


@case(refused="StraightThrough")
def goes_straight_through_a_step_function() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            return h + 0.5 * StraightThrough.apply(h)  # type: ignore[operator]

    return Cell()


@case(refused="Reverse")
def reverses_the_derivative_of_a_parameter() -> Made:
    class Cell(After):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.rand(H))

        def after(self, h: Tensor) -> Tensor:
            return h * Reverse.apply(self.gain, 0.5)  # type: ignore[operator]

    return Cell()


@case()
def reverses_the_derivative_of_the_input() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(Reverse.apply(x, 2.0), h)  # type: ignore[arg-type]
            return h, h

    return Cell()


@case()
def goes_straight_through_rounding() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            return h + ((3 * h).round() / 3 - h).detach()

    return Cell()


@case()
def detaches_the_state() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x, h.detach())
            return h, h

    return Cell()


@case()
def detaches_the_input_and_a_parameter() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = self.mix(x.detach(), h) + self.lin.bias.detach() * h.norm(dim=1, keepdim=True).data
            return h, h

    return Cell()


@case()
def computes_a_part_without_gradients() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                gate = torch.sigmoid(self.lin(torch.cat([x, h], 1)))
            h = gate * self.mix(x, h) + (1 - gate) * h
            return h, h

    return Cell()


@case()
def computes_a_constant_part_without_gradients() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                norm, gate = self.lin.weight.norm(), torch.sigmoid(x.mean(1, keepdim=True))
            h = gate * self.mix(x, h) / norm
            return h, h

    return Cell()


@case()
def switches_gradients_by_an_attribute() -> Made:
    class Cell(Small):
        learning = True

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            with torch.set_grad_enabled(self.learning and torch.is_grad_enabled()):
                h = self.mix(x, h)
            return h + x.sum(1, keepdim=True), h

    cell = Cell()
    return cell, lambda: setattr(cell, "learning", False)


@case()
def takes_a_derivative_inside_of_the_step() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            with torch.enable_grad():
                h = h if h.requires_grad else h.detach().requires_grad_()
                (slope,) = torch.autograd.grad(h.pow(3).sum(), h, create_graph=True)
            return h - 0.1 * slope

    return Cell()


@case()
def learns_inside_of_the_step() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            target, guess = h.detach(), torch.zeros_like(h).requires_grad_()
            with torch.enable_grad():
                for _ in range(2):
                    (g,) = torch.autograd.grad(F.mse_loss(guess, target, reduction="sum"), guess)
                    guess = (guess - 0.3 * g).detach().requires_grad_()
            return h + guess.detach()

    return Cell()


@case()
def takes_a_derivative_by_torch_func() -> Made:
    class Cell(After):
        def after(self, h: Tensor) -> Tensor:
            return h - 0.1 * torch.func.grad(lambda a: a.tanh().square().sum())(h)

    return Cell()


@case()
def checkpoints_inside_of_the_step() -> Made:
    class Cell(Small):
        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = checkpoint(self.mix, x, h, use_reentrant=False)  # type: ignore[assignment]
            return h, h

    return Cell()


@case()
def packs_what_the_step_saves() -> Made:
    class Cell(Small):
        def __init__(self) -> None:
            super().__init__()
            self.packed: list[int] = []

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            def pack(saved: Tensor) -> Tensor:
                self.packed.append(saved.dim())
                return saved

            with saved_tensors_hooks(pack, lambda saved: saved.mul(0.5) if saved.dim() > 1 else saved):
                h = self.mix(x, h)
            return h, h

    return Cell()


@case()
def has_a_backward_hook_in_a_submodule() -> Made:
    cell = Small()
    handles: list[Any] = []

    def add() -> None:
        handles.append(cell.lin.register_full_backward_hook(lambda m, gi, go: tuple(0.5 * g for g in gi)))

    return cell, add, lambda: handles[0].remove()


@case()
def has_forward_hooks_that_come_and_go() -> Made:
    def double(module: nn.Module, args: Any, output: Any) -> Any:
        return 2 * output

    cell = Small()
    handles: list[Any] = []
    return (
        cell,
        lambda: handles.append(cell.lin.register_forward_hook(double)),
        lambda: handles.append(cell.register_forward_pre_hook(lambda m, args: (2 * args[0], args[1]))),
        lambda: [handle.remove() for handle in handles],
    )


@case(native=True)
def freezes_and_thaws_parameters() -> Made:
    class Cell(After):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(H))

        def after(self, h: Tensor) -> Tensor:
            return h * self.gain

    cell = Cell()
    return (
        cell,
        lambda: cell.gain.requires_grad_(False),
        lambda: cell.lin.requires_grad_(False),
        lambda: cell.requires_grad_(True),
    )


@case(native=True)
def adds_one_number_to_all_of_the_state() -> Made:
    class Cell(us.Cell):
        def __init__(self) -> None:
            super().__init__(H)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            return h, x.sum(1, keepdim=True) + h

    return Cell()


@case(native=True)
def turns_the_state_and_adds_parts_of_the_input() -> Made:
    class Cell(us.Cell):
        def __init__(self) -> None:
            super().__init__(H)

        def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            h = h.view(len(h), 2, -1) + x[:, :2].unsqueeze(2)
            return h.flatten(1).sum(1, keepdim=True), h.flatten(1).flip(1)

    return Cell()
