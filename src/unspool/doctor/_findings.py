"""From what was seen of a recurrent part to what is said about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from torch import nn

from unspool._reason import Reason
from unspool.backends import TORCH, Decision
from unspool.doctor._diagnosis import Finding, Timing
from unspool.doctor._observer import Seen
from unspool.layers import RNN, Bidirectional, is_scripted

ACCELERATE = "model = unspool.accelerate(model)"
PADDED = "what looks like padding is computed, since no lengths are given"


def kind_of(module: nn.Module) -> str:
    """Return what a user calls the class of a module.

    Parameters
    ----------
    module : Module
    """
    if is_scripted(module):
        return f"scripted {module.original_name}"
    cls = type(module)
    inner = module.cell if isinstance(module, RNN) else None
    inner = module.forward_layer if isinstance(module, Bidirectional) else inner
    package = "torch.nn." if cls.__module__.startswith("torch.nn.") else ""
    package = "unspool." if cls.__module__.startswith("unspool.") else package
    return f"{package}{cls.__name__}" + ("" if inner is None else f"({kind_of(inner)})")


def code_of(model: nn.Module, path: str) -> str:
    """Return how a part of `model` is written in Python.

    Parameters
    ----------
    model : Module
    path : str
        The part's name in `named_modules`.
    """
    code, parent = "model", model
    for name in path.split(".") if path else ():
        if isinstance(parent, nn.Sequential | nn.ModuleList):
            code += f"[{name}]"
        else:
            code += f".{name}" if name.isidentifier() else f".get_submodule({name!r})"
        parent = parent.get_submodule(name)
    return code


def finding_of(model: nn.Module, seen: Seen, timing: Timing | None = None) -> Finding:
    """Return what there is to say about a part of a model.

    Parameters
    ----------
    model : Module
    seen : Seen
    timing : Timing, optional
        Of a layer of `torch.nn`.
    """
    code = code_of(model, seen.path) if seen.path or seen.module is model else "cell"
    if seen.role == "cell":
        return _stepped_cell(seen, code)
    if seen.role == "torch":
        return _torch_layer(seen, code, timing)
    return _run_over_time(seen, code)


def _run_over_time(seen: Seen, code: str) -> Finding:
    is_layer = seen.role == "layer"
    held_up, changes = _against(seen.decisions, code)
    for decision in seen.decisions:
        asked = [name for name, reasons in _faster(decision).items() if not reasons]
        held_up += [f"{name} could run it, but {decision.chosen} was asked for" for name in asked]
        if asked:
            auto = f"unspool.dynamic_rnn({code}, x, backend='auto')"
            changes.append(_with_auto_backend(seen.module, code) if is_layer else auto)
    if _looks_padded(seen):
        held_up.append(PADDED)
        with_lengths = f"unspool.dynamic_rnn({code}, x, sequence_length=lengths)"
        changes.append(f"{code}(x, lengths=lengths)" if is_layer else with_lengths)
    if seen.packed:
        held_up.append("packing and unpacking take time of their own, going backward most of all")
        changes.append(f"in place of packing: {code}(x, lengths=lengths)")
    return _finding(seen, _who(seen.decisions), held_up, changes)


def _with_auto_backend(layer: Any, code: str) -> str:
    if isinstance(layer, nn.RNNBase):
        return f"unspool.accelerate({code}, backend='auto')"
    inner = "".join(f"{code}.{name}.backend = " for name in ("forward_layer", "backward_layer") if hasattr(layer, name))
    return (inner or f"{code}.backend = ") + "'auto'"


def _stepped_cell(seen: Seen, code: str) -> Finding:
    if seen.calls == 1:
        return _finding(seen, "PyTorch, one step", [], [])
    held_up = [f"a loop of the model's own calls it {seen.calls} times, a step each"]
    changes = [f"in place of the loop: outputs, state = unspool.dynamic_rnn({code}, x)"]
    return _finding(seen, "PyTorch, step by step", held_up, changes)


def _torch_layer(seen: Seen, code: str, timing: Timing | None) -> Finding:
    found = seen.examined
    assert found is not None
    if found.refusal is not None:
        return _finding(seen, found.kernel, [f"it {found.refusal}"], [found.refusal.change(code)])
    chosen = {decision.chosen for decision in found.would_run}
    padded = _looks_padded(seen)
    if "reference" in chosen:
        reasons, _ = _against(found.would_run, code)
        return _finding(seen, found.kernel, ["accelerated, it would run on reference, which is no gain", *reasons], [])
    # Where PyTorch's own or a vendor's kernel runs it either way, what is gained is that padding is left out.
    if chosen != {"native"} and not padded:
        return _finding(seen, found.kernel, [], [], timing)
    if timing is not None and timing.before <= timing.after:
        return _finding(seen, found.kernel, [], [], timing)
    held_up, changes = ["it is not accelerated"], [ACCELERATE]
    if padded:
        held_up.append(PADDED)
        changes.append(f"{code}(x, lengths=lengths)")
    return _finding(seen, found.kernel, held_up, changes, timing)


def _looks_padded(seen: Seen) -> bool:
    return seen.padding is not None and not seen.padding.known and seen.padding.padding > 0


def _finding(
    seen: Seen, runs_on: str, held_up: Iterable[str], changes: Iterable[str], timing: Timing | None = None
) -> Finding:
    return Finding(
        path=seen.path,
        kind=f"dynamic_rnn over {kind_of(seen.module)}" if seen.role == "run" else kind_of(seen.module),
        calls=seen.calls,
        runs_on=runs_on,
        held_up_by=tuple(dict.fromkeys(held_up)),
        padding=seen.padding,
        changes=tuple(dict.fromkeys(changes)),
        timing=timing,
    )


def _who(decisions: list[Decision]) -> str:
    if not decisions:
        return "nothing: every call raised an error"
    counts = Counter(decision.chosen for decision in decisions)
    if set(counts) == {TORCH}:
        (reasons,) = decisions[0].reasons.values()
        return "; ".join([TORCH, *reasons])
    if len(counts) == 1:
        return decisions[0].chosen
    return ", ".join(f"{name} ({count} of {len(decisions)} runs)" for name, count in counts.items())


def _faster(decision: Decision) -> dict[str, list[Reason]]:
    """Return the backends that come before the one that was chosen and are for this device, with their reasons."""
    if decision.chosen == TORCH:
        return {}
    earlier = takewhile(lambda name: name != decision.chosen, decision.reasons)
    found = {name: list(map(Reason.of, decision.reasons[name])) for name in earlier}
    return {name: reasons for name, reasons in found.items() if not any(reason.of_device for reason in reasons)}


def _against(decisions: list[Decision], code: str) -> tuple[list[str], list[str]]:
    """Return the reasons of faster backends, and what removes them."""
    found = [(name, r) for decision in decisions for name, reasons in _faster(decision).items() for r in reasons]
    changes = [reason.change(code) for _, reason in found]
    return [f"{name}: {reason}" for name, reason in found], [line for line in changes if line]
