"""The list of mutants: a file, a text in it, another text, and the tests that must find the mistake.

A text must stand in its file once. One that the code no longer has is an error of the run: change it with the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes
    ----------
    name : str
        Its area and what goes wrong.
    file : str
        Where it is made.
    old, new : str
        What stands there, once, and what stands there then.
    tests : str
        Arguments of pytest: what is to find it.
    equal : str
        Why nobody can find it, where it changes nothing that can be seen.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    equal: str = ""


def _of(area: str, file: str, tests: str, *mistakes: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield the mistakes of a file; each is a name, an old and a new text, and why it changes nothing, if it does."""
    for name, old, new, *equal in mistakes:
        yield Mutant(f"{area}: {name}", file, old, new, tests, *equal)


CASES = "tests/conformance/test_cases.py"
"""Every cell against the oracle: what must find mistakes in how runs are run."""
ENGINE = f"{CASES} tests/backends/test_native.py"
"""Also cells of the literature, in sizes around those of vectors and blocks."""
THREADS = "tests/backends/test_native_refusals.py::test_one_and_two_threads_agree"
"""Several blocks of sequences, and one on which all threads work."""
AGAIN = "tests/execution/test_again.py"
"""Calls of one form, and what may change between two of them."""
STREAMS = "tests/streaming"
RULES = "tests/program/test_differentiate.py tests/program/rules/test_rules.py"
BACKENDS, PROGRAM, DATA, TRAINING = (f"src/unspool/{name}" for name in ("backends", "program", "data", "training"))

MUTANTS = [
    *_of(
        "schedule", f"{BACKENDS}/_schedule.py", CASES,
        ("a mask goes beyond the lengths", "active if lengths is None else active & _within(lengths, steps)", "active"),
        ("a gap is not seen", "bool((active[1:] > active[:-1]).any())", "bool((live[1:] > live[:-1]).all())"),
        ("tokens in the wrong order", "key = self.steps - 1 - time if self.reverse else time", "key = time"),
        ("steps in the wrong order", "times = times.flip(0) if self.reverse else times", ""),
        ("first and last exchanged", "(ends[1], ends[0]) if self.reverse else (ends[0], ends[1])", "ends"),
        ("a row without tokens ends at its first step", "return (self.lengths > 0).long() - 1, self.lengths - 1",
         "return (self.lengths > 0).long() - 1, (self.lengths - 1).clamp(min=0)"),
        ("the first token of a row with gaps", "torch.where(self.lengths > 0, first, -1), ", "0 * first, "),
    ),
    *_of(
        "schedule", f"{BACKENDS}/_schedule.py", "tests/conformance/test_ragged.py tests/layers/test_ragged.py",
        ("rows of a ragged batch lie apart", "return 1 if self.ragged else self.batch", "return self.batch"),
        ("rows of a ragged batch begin one after another", "self.lengths.cumsum(0) - self.lengths if self.ragged",
         "self.lengths.cumsum(0) if self.ragged"),
    ),
    *_of(
        "schedule", f"{BACKENDS}/_schedule.py", "tests/layers tests/conformance/test_keras.py",
        ("the last step of a reversed row", "self._ends[0 if self.reverse else 1]", "self._ends[1]"),
        ("the last step of a dense reversed row", "return values[0 if self.reverse else -1]", "return values[-1]"),
        ("a row without tokens has a last output", "found.masked_fill((self.last < 0).view(-1, *[1] * len(tail)), 0)",
         "found"),
    ),
    *_of(
        "resets", f"{BACKENDS}/_schedule.py", CASES,
        ("a reset in a gap is lost", "resets = self._waiting(resets)", "pass"),
        ("a reset in a gap is taken twice", "valid.long().cumsum(0) - valid.long()  # valid",
         "0 * valid.long()  # valid"),
        ("one of the padding counts in reverse", "resets.flip(0) & (valid.cumsum(0) > 0)", "resets.flip(0)"),
        ("the direction of waiting resets", "found.flip(0) if self.reverse else found", "found"),
    ),
    *_of(
        "resets", "src/unspool/cells/_around.py", CASES,
        ("no state is reset", "choose_rows(reset, given[0] if given else restart.start, state)", "state"),
        ("what the cell takes beside is lost", "restart.inside[0] if restart.inside else None", "None"),
    ),
    *_of(
        "resets", "src/unspool/execution/_run.py", CASES,
        ("a reset returns to the given state", "Restart(own_state, ()", "Restart(state, ()"),
        ("all states are those of the outputs", "states = repeated(schedule, states, before=state)",
         "states = repeated(schedule, states)"),
    ),
    *_of(
        "padding", f"{BACKENDS}/_padding.py", CASES,
        ("what is repeated in reverse", "if not schedule.reverse and len(values):", "if len(values):"),
        ("a row without steps repeats another's", "torch.where((last < 0).view(-1, *tail), before, found)", "found"),
        ("gaps repeat the next output", "filled.flip(0) if schedule.reverse else filled", "filled"),
        ("steps keep what was before", "around.index_copy(0, places, values.flatten(0, 1).index_select(0, places))",
         "around"),
    ),
    *_of(
        "given states", f"{BACKENDS}/_schedule.py", "tests/layers/test_reset_states.py",
        ("the state at the step and not at the reset", "if self._gaps is None:  # none", "if True:  # none"),
        ("the direction of waiting states", "(self.steps - 1 - source).flip(0) if self.reverse else source", "source"),
    ),
    *_of(
        "given states", "src/unspool/execution/_batch.py", "tests/layers/test_reset_states.py",
        ("one step alone", "about.reset_states is not None or steps != 1", "steps != 1"),
        ("states without resets", "if about.resets is None:\n        raise", "if False:\n        raise"),
    ),
    *_of(
        "starts", "src/unspool/layers/_starts.py", "tests/layers/test_stateful.py tests/layers/test_learned_start.py",
        ("users write into what is kept", "return leaf.detach().clone()", "return leaf.detach()"),
        ("gradients of the last call", "return leaf.detach().clone()", "return leaf.clone()"),
        ("another batch goes on", "if batch is not None and leaf.shape[axis] != batch:", "if False:"),
        ("what is kept stays where it was", "map_leaves(fn, self._kept_state)", "self._kept_state"),
        ("what inference has kept", "state = map_leaves(torch.clone, state)", "pass"),
        ("a checkpoint goes on from a later state", "elif is_in_backward():", "elif False:"),
        ("parameters are not filled anew", "parameter.copy_(leaf)", "pass"),
    ),
    *_of(
        "starts", "src/unspool/execution/_again.py", "tests/layers/test_learned_start.py",
        ("a repeated call of another dtype", "leaf.dtype != self.dtype or", ""),
    ),
    *_of(
        "padding", f"{BACKENDS}/_schedule.py", CASES,
        ("the latest step in a gap", "torch.where(flags, number, 0), step)", "number, step)"),
    ),
    *_of(
        "padding", f"{BACKENDS}/_inference.py", CASES,
        ("memory is not cleared", "(torch.zeros if layout.has_padding else torch.empty)", "torch.empty"),
        ("memory of the static mode is not cleared",
         "(static.buffers.zeros if layout.has_padding else static.buffers.empty)", "static.buffers.empty"),
    ),
    *_of(
        "directions", "src/unspool/execution/_bidirectional.py", CASES,
        ("both forward", "reverse=True, **options\n    )\n    return (output_fw",
         "**options\n    )\n    return (output_fw"),
        ("both forward, static", "reverse=True, **options\n    )\n    both", "**options\n    )\n    both"),
        ("states of the first layer for all", "_of_layer(initial_states_bw, k)", "_of_layer(initial_states_bw, 0)"),
        ("outputs exchanged", "torch.cat([a, b], dim=-1)", "torch.cat([b, a], dim=-1)"),
    ),
    *_of(
        "directions", "src/unspool/layers/_base.py", "tests/conformance/test_keras.py",
        ("go_backwards gives outputs in order", "leaf.flip(0), output) if self.go_backwards else output",
         "leaf, output) if self.go_backwards else output"),
    ),
    *_of(
        "layouts", f"{BACKENDS}/_layout.py", f"{THREADS} tests/backends/test_layout.py {ENGINE}",
        ("rows come back in the wrong order", "torch.empty_like(leaf).index_copy(0, self.rows, leaf)",
         "leaf.index_select(0, self.rows)"),
        ("time in reverse", "time = lengths[row] - 1 - step if schedule.reverse else step", "time = step"),
        ("times of rows with gaps", "time if schedule.right_padded else schedule.by_row[1].numpy()[by_row]", "time"),
        ("a token misses its row", "(row_starts[:, None] - firsts).ravel()", "(0 * firsts - firsts).ravel()"),
        ("the longest rows in one block", "[ranked[p::blocks] for p in range(blocks)]",
         "np.array_split(ranked, blocks)"),
    ),
    *_of(
        "layouts", f"{BACKENDS}/native.py", ENGINE,
        ("boolean row inputs", "known[leaf] = tensor.to(dtype)", "pass"),
        ("rows of fresh states are not permuted", "None if own is None else layout.take_rows(own)", "own"),
        ("states are not permuted", "state, own = layout.take_rows(state),", "state, own = state,"),
        ("final states are not permuted", "final = map_leaves(layout.put_rows, final)", "pass"),
    ),
    *_of(
        "layouts", "src/unspool/execution/_batch.py", CASES,
        ("a kept schedule of the other direction", "return _whole(steps, batch, reverse,",
         "return _whole(steps, batch, False,"),
    ),
    *_of(
        "layouts", f"{BACKENDS}/_engine_run.py", f"{THREADS} {ENGINE}",
        ("vectors' gradients of one block", "(sums if len(sums) == 1 else sums.sum(0))", "sums[0]"),
        ("weights' gradients of one block", "sums.view(-1) if layout.blocks == 1 else sums.sum(0)", "sums[0]"),
        ("transposed sums are not", "total.view(columns, rows).t()", "total.view(rows, columns)"),
        ("a weight used twice", "part if before is None else before + part", "part"),
        ("the caller's gradient is written to",
         "g.reshape(batch, width).clone(memory_format=torch.contiguous_format)", "g.reshape(batch, width)"),
        ("the caller's state is written to", "initial.clone(memory_format=torch.contiguous_format)", "initial"),
        ("an output that nobody used", "g = torch.zeros((1, 1, *shape)", "g = torch.ones((1, 1, *shape)"),
    ),
    *_of(
        "dispatch", f"{BACKENDS}/_probe.py", ENGINE,
        ("the plan without gradients is not checked", "return found + _values(run(small))",
         "return found + found[: len(compiled.results)]"),
    ),
    *_of(
        "layouts", f"{BACKENDS}/_inference.py", ENGINE,
        ("a lazy minus sign", "tensor.resolve_neg() if tensor.is_neg() else tensor", "tensor"),
        ("boolean parameters", "tensor if tensor.dtype == dtype else tensor.to(dtype)", "tensor"),
        ("final states are not computed", "tensors = [*values, *states, *outputs]",
         "tensors = [*values, *map(torch.clone, states), *outputs]"),
        ("part of a weight", "return whole, start + first,", "return whole, start,"),
    ),
    *_of(
        "layouts", "native/tensors.hpp", ENGINE,
        ("a mask for all rows", "(form.axes != Form::matrix || size[0] <= 1 || stride[0] >= width)", "true"),
        ("features that lie apart", "if (t.shape[i] != 1 && t.strides[i] != expected) return false;", ""),
        ("a copy of several axes", "from -= t.strides[i] * t.shape[i], at[axis] = 0;", "at[axis] = 0;"),
        ("columns of a weight", "+ cut.first * t.strides[1]", ""),
        ("rows and columns of a weight", "if (cut.transposed) return", "if (!cut.transposed) return"),
    ),
    *_of(
        "engine", "native/gemm_impl.hpp", ENGINE,
        ("the last values of a sum", "if (const int rest = int(K - k))\n      step(",
         "if (const int rest = 0)\n      step("),
        ("columns that are not there", "column[j] = given.w + (n + (j < wanted ? j : 0)) * given.stride_n",
         "column[j] = given.w + n * given.stride_n"),
        ("the next rows", "init ? init + m * ld_init : nullptr, ld_init,\n                                  C",
         "init, ld_init,\n                                  C"),
    ),
    *_of(
        "repeated calls", f"{BACKENDS}/_repeat.py", AGAIN,
        ("another reading stands", "if standing is None or standing[0] is not self._compiled:", "if standing is None:"),
        ("another cell stands", "is not self._owner():", "is None:",
         "the guard asks the other cell all that was read of the first one"),
        ("a lazy minus sign", "if any(map(Tensor.is_neg, pool)):", "if False:"),
    ),
    *_of(
        "repeated calls", "src/unspool/execution/_again.py", AGAIN,
        ("whatever the options", "last = forms.get((inputs.shape, options))",
         "last = next((l for (shape, _), l in forms.items() if shape == inputs.shape), None)"),
        ("inputs of another dtype", "inputs.dtype != last.dtype or ", ""),
        ("a state of another shape", "type(leaf) is Tensor and leaf.shape == shape", "type(leaf) is Tensor"),
        ("a state of another dtype", " and leaf.dtype == last.dtype", ""),
        ("a state of another kind", "type(state) is not last.kind and", "False and"),
        ("the caller's state is written to", "[leaf.clone(memory_format=torch.contiguous_format) for leaf in leaves]",
         "list(leaves)"),
    ),
    *_of(
        "repeated calls", f"{BACKENDS}/dispatch.py", AGAIN,
        ("surroundings are not seen", "and is_ordinary()", ""),
        ("nobody is told", "and _recorder.get() is None", ""),
    ),
    *_of(
        "repeated calls", "src/unspool/execution/_again.py", AGAIN,
        ("another start", "if not draws_nothing(cell) or (state is None and state_sizes(cell) is None):",
         "if not draws_nothing(cell):"),
        ("a reset of all", "leaf.masked_fill(resets.unsqueeze(1), 0.0)", "leaf.masked_fill(resets.any(), 0.0)"),
    ),
    *_of(
        "repeated calls", "src/unspool/layers/_torch_like.py", AGAIN,
        ("dropout is not drawn", "if draws_nothing(cell) else None", "if True else None",
         "the guard of what was read without masks asks for the mode and the probabilities too"),
        ("one state for all layers", "[leaf.select(0, k) for leaf in whole]", "[leaf.select(0, 0) for leaf in whole]"),
    ),
    *_of(
        "repeated calls", "src/unspool/execution/_batch.py", AGAIN,
        ("all cells start at zero", "steps != 1 or not from_zero", "steps != 1"),
        ("lengths of some sequences", "if any(length != steps for length in lengths.tolist()):", "if False:"),
        ("resets at several steps", "is not None or steps != 1 or", "is not None or"),
    ),
    *_of(
        "rehearsals", f"{PROGRAM}/rehearse.py", "tests/program/test_rehearse.py",
        ("an import is undone", "        if importing:\n            return\n", ""),
        ("globals stay as they are written", "snapshot.add_global(names, name)", "pass"),
    ),
    *_of(
        "streams", "src/unspool/streaming/_parts.py", STREAMS,
        ("weights are believed", "not all(map(is_, values, tensors.values()))", "False"),
        ("another layer computes", "of is not layer", "False"),
        ("the mode is believed", "or training != layer.training", ""),
        ("any options", "x.dtype, layer._options(layer)", "x.dtype, None"),
        ("inputs of another dtype", "x.shape, x.dtype,", "x.shape, None,"),
        ("surroundings are not seen", " and may_repeat(last.surroundings)", ""),
        ("a cell's own state", "x, held.copy(), constants)", "x, held.nest, constants)"),
        ("half of the cells have stepped", "        if found is None:\n            held.restore()\n", ""),
        ("an interrupted chunk", "if one_step and len(cells) == 1 and x.shape[0] <= _AT_ONCE:", "if len(cells) == 1:"),
        ("masks are drawn", "if not draws_nothing(cell) and row", "if False and row"),
        ("hooks of a layer", "if own is module and (module._forward_hooks", "if False and (module._forward_hooks"),
    ),
    *_of(
        "streams", "src/unspool/streaming/_chain.py", STREAMS,
        ("a part that fails", "all_kept.enter_context(held.kept())", "pass"),
        ("children are believed", "if children != list(_children(module)):", "if False:"),
        ("another layout", "            self._settle()\n\n    def run(", "            pass\n\n    def run("),
        ("hooks of a container", "if isinstance(module, nn.Module) and (", "if False and ("),
    ),
    *_of(
        "streams", "src/unspool/streaming/_held.py", STREAMS,
        ("the state of the last step but one", "            before.copy_(leaf)\n", "            pass\n"),
        ("a state that is shared", "leaf.detach().clone(memory_format=torch.contiguous_format)", "leaf.detach()"),
        ("other sequences", "leaf.index_copy_(self.axis, indices.to(leaf.device), new)", "leaf.copy_(leaf)"),
    ),
    *_of(
        "streams", "src/unspool/streaming/_rows.py", STREAMS,
        ("a key is given twice", "self._next = max(self._next, key + 1)", "pass"),
        ("places after one that goes", "{other: place for place, other in enumerate(self._places)}", "self._places"),
    ),
    *_of(
        "streams", "src/unspool/streaming/_stream.py", STREAMS,
        ("some are not reset", "                    held.put_rows(indices, new)\n", "                    pass\n"),
        ("some are not stepped", "held.put_rows(indices, new)\n            return y",
         "pass\n            return y"),
        ("gradients are lost", "or (recording and leaf.requires_grad)", ""),
        ("two threads", "if not self._lock.acquire(blocking=False):", "if not self._lock.acquire():"),
        ("what is not known", "if unknown := state_dict.keys() - expected:", "if unknown := ():"),
    ),
    *_of(
        "streams", "native/tensors.hpp", STREAMS,
        ("one step of several sequences", "return {data, 1, width, size[0] * stride[0], size[0], stride[0]};",
         "return {data, 1, width, size[0] * stride[0], size[0], width};"),
    ),
    *_of(
        "loop", f"{BACKENDS}/_running.py", CASES,
        ("rows come in out of order", "inside = inside[merged]", "inside = inside"),
        ("the states of the rows that stay", "take_rows(new, going if len(staying) else None)",
         "take_rows(new, staying if len(staying) else None)"),
        ("a state in a gap", "old.index_copy(0, active, part)", "old.index_add(0, active, part)"),
    ),
    *_of(
        "loop", f"{BACKENDS}/reference.py", "tests/backends/test_reference.py",
        ("a cell may write into its state", "if _versions(tree) != versions[name]:", "if False:"),
    ),
    *_of(
        "masked", f"{BACKENDS}/masked.py", "tests/execution/test_export.py tests/execution/test_func.py",
        ("padding is seen", "torch.where(valid.view(*valid.shape, *[1] * (leaf.dim() - 2)), leaf, filler)", "leaf"),
        ("padding moves the state", "new = choose_rows(valid, new, old)", "pass"),
        ("padding has outputs", "output = choose_rows(valid, output, map_leaves(torch.zeros_like, output))", "pass"),
        ("results in reverse", "outputs = map_leaves(lambda leaf: leaf.flip(0), outputs)", "pass"),
    ),
    *_of(
        "all states", "src/unspool/cells/_around.py", "tests/execution/test_export.py " + CASES,
        ("all states of an unrolled run", "return (output, new), new", "return (output, state), new"),
    ),
    *_of(
        "dispatch", f"{BACKENDS}/dispatch.py", "tests/backends/test_dispatch.py tests/backends/test_native.py",
        ("the backend that was asked for", "if backend.name == name:\n            return",
         "if True:\n            return"),
        ("backends of other devices are asked", "if backend.device in (None, device):", "if True:"),
    ),
    *_of(
        "dispatch", f"{BACKENDS}/dispatch.py", "tests/trust/test_traces.py -k looking",
        ("who asks has effects", 'nullcontext() if chosen.name == "native" else rehearsed(call.cell)',
         "nullcontext()"),
    ),
    *_of(
        "dispatch", f"{BACKENDS}/native.py", "tests/backends/test_native_refusals.py tests/backends/test_native.py",
        ("autocast is not seen", 'autocast_dtype("cpu") is not None', "False"),
        ("hooks are not seen", "found += [hooks] if hooks else []", "pass"),
        ("hooks of the cell are not seen", "return None, hooks", "pass"),
        ("programs are not checked", "different = probe(self, small, compiled, reading)\n                if different:",
         "different = probe(self, small, compiled, reading)\n                if False:"),
        ("small batches are not tried", "small, batch, reading)\n            if different:",
         "small, batch, reading)\n            if False:"),
        ("the size of the first batch is not tried", "batches[batch] = in_batch", "batches[batch] = Reason()"),
        ("a size of batch is not tried", "probe_batch(call) if batch else Reason()", "Reason()"),
        ("integers beside the rows", "tensor.is_floating_point() or tensor.dtype == torch.bool", "True"),
        ("another cell's structure", "return found.again() if same else None", "return found.again()"),
    ),
    *_of(
        "dispatch", f"{PROGRAM}/kept.py", "tests/program/test_kept.py tests/trust/test_cells.py",
        ("what stands is not asked", "if type(tensors) is tuple:", "if tensors is not None:"),
        ("a cell is read at every run", "shelf.readings > ALWAYS + shelf.runs // SELDOM", "False"),
    ),
    *_of(
        "hoisting", f"{PROGRAM}/hoist.py", "tests/program/test_hoist.py",
        ("columns of the first part", "start += part.width\n        return", "return"),
        ("products are not split", 'if value.op != "product" or args[0].op != "concat":', "if True:"),
        ("the first of merged products", "start = sum(v.width for v in group[: group.index(value)])", "start = 0"),
        ("cuts of one value are one", "tuple(a.id for a in args), shape, repr(attrs))",
         "tuple(a.id for a in args), shape)"),
        ("one term is left out", "[t for a in value.args for t in terms(a, root=False)]",
         "[t for a in value.args for t in terms(a, root=False)][:3]"),
        ("sums are not regrouped", "if len(found) == 1:\n            return None", "if True:\n            return None"),
    ),
    *_of(
        "differentiation", f"{PROGRAM}/operations.py", RULES,
        ("tanh", '"tanh", "tanh_grad(g, y)"', '"tanh", "sigmoid_grad(g, y)"'),
        ("relu at zero", '"relu", "where(a > 0, g, 0)"', '"relu", "where(a >= 0, g, 0)"'),
        ("clamp at its bounds", '"clamp", "where((a >= imm0)', '"clamp", "where((a > imm0)'),
        ("a sixth in single precision", "_SIXTH = 0.1666666716337204", "_SIXTH = 1 / 6"),
        ("where", '"where(a, 0, g)"', '"where(a, g, 0)"'),
        ("the smaller of equal ones", '"minimum", "g * ((a < b) + (a == b) * 0.5)"',
         '"minimum", "g * ((a < b) + (a == b))"'),
        ("powers of zero", "(a == 0) * (b >= 0)", "(a < 0) * (b >= 0)"),
        ("softplus beyond its threshold", "a * imm0 > imm1", "a * imm0 < imm1"),
    ),
    *_of(
        "differentiation", f"{PROGRAM}/differentiate.py", RULES,
        ("the largest of equal ones", 'self.emit("div", g, count)', "g"),
        ("mean", "self.number(1.0 / n)", "self.number(1.0)"),
        ("gather", "back[at] = place", "back[place] = at"),
        ("a value that is used twice", 'self.emit("add", grads[value], gradient) if value in grads else', ""),
        ("cuts that overlap", "pieces = rest", "pieces = []"),
        ("what a product adds", "if len(args) == 3:", "if False:"),
        ("repeated along outer axes", "range(0, value.width, arg.width)", "range(0, arg.width, arg.width)"),
    ),
    *_of(
        "differentiation", f"{PROGRAM}/differentiate.py", ENGINE,
        ("all is computed again", "if given and (cheap or (from_free and value.op != \"product\")):", "if given:",
         "values that are computed again have the same gradients: the choice is one of time and memory"),
    ),
    *_of(
        "planning", f"{PROGRAM}/plan.py", ENGINE,
        ("memory is given away too early", "last[owner] = len(values)", "last.setdefault(owner, 0)"),
        ("what a chunk needs lies at a step", "if self.phase is Phase.STEP and value not in self._crossing else",
         "if self.phase is Phase.STEP else"),
        ("memory is too narrow", "free and width <= w <= 2 * width", "free and w <= 2 * width"),
        ("the place of a cut", 'base.column + value.attrs["start"]', "base.column"),
        ("the place of a part", "base.column + start, Mode.FULL)\n        else",
         "base.column, Mode.FULL)\n        else"),
        ("rows are read where they lie", "Place.PREVIOUS, Place.ROW)", "Place.PREVIOUS)"),
        ("one feature for all", "if value.width == 1 and width > 1 and at.mode is Mode.FULL:", "if False:"),
        ("an addend of stacked products", "b=addend and _from(addend, start)", "b=addend",
         "several products take what is stacked apart again, and so none of them adds anything by itself"),
        ("the places of stacked products", "_from(at, start), n, a=x", "at, n, a=x"),
    ),
    *_of(
        "planning", f"{PROGRAM}/step.py", ENGINE,
        ("a state that moves is overwritten", "elif _root(value) in leaves:", "elif False:"),
        ("a state that nobody reads keeps its gradient", "sources.append(planner.scalar(0.0))", "sources.append(None)"),
        ("what reads carried gradients waits", 'any(_root(a).op == "grad_state" for a in v.args)', "False"),
        ("new states that the gradient takes", "if old in taken or (new in taken and new not in outputs)",
         "if old in taken"),
        ("transposed blocks", "(x, gradient) if transposed else (gradient, x)", "(gradient, x)"),
        ("long rows are not preferred", "x.width < min(NARROW, gradient.width)", "False",
         "the gradient of a weight is the same, summed in its own form and not as its transpose"),
        ("row inputs have the gradient of one step", "place, value.width, a=place, b=planner",
         "place, value.width, a=planner.scalar(0.0), b=planner"),
    ),
    *_of(
        "engine", "native/executor.cpp", f"{THREADS} tests/backends/test_static.py tests/backends/test_native_sizes.py",
        ("steps of a chunk backward", "(plan_.backward ? steps - 1 - i : i)", "i"),
        ("the first step of a chunk", "plan_.backward ? live - done - steps : done;", "done;"),
        ("weights that have changed", "std::exchange(known, now) == now;", "std::exchange(known, now) != 0;"),
        ("a part of the rows", "part.row_start += part.row;", ""),
        ("the tokens of a part", "offset(whole.block, whole.first_step) + whole.row;",
         "offset(whole.block, whole.first_step);"),
    ),
    *_of(
        "engine", "native/instructions.hpp", f"{THREADS} {ENGINE}",
        ("a row of an earlier step", "while (r - before >= count(f.block, step))", "if (r - before >= 8)"),
        ("a part of the columns", "m0 * in.groups, in.groups, true,", "m0, in.groups, true,"),
        ("few tokens", "layout_.tokens < kFew && w.stride_k == 1", "false",
         "a packed weight gives the same products: for few tokens only later"),
    ),
    *_of(
        "samplers", f"{DATA}/_sampler.py", "tests/data/test_sampler.py",
        ("all epochs alike", "default_rng([self.seed, epoch])", "default_rng([self.seed])"),
        ("the share of a process", "order[first + self.rank :", "order[first :"),
        ("batches of a resumed epoch", "range(start * self.batch_size, self.size", "range(0, self.size"),
    ),
    *_of(
        "samplers of lengths", f"{DATA}/_length_sampler.py", "tests/data/test_length_samplers.py",
        ("all epochs alike", "default_rng([self.seed, epoch])", "default_rng([self.seed])"),
        ("the share of a process", "steps[:, self.rank]", "steps[:, 0]"),
        ("a batch goes beyond its group", "min(start + size, first + count)", "start + size"),
        ("other lengths have the same state", "(self.lengths, self._groups, self._batch_sizes)",
         "(self._groups, self._batch_sizes)"),
    ),
    *_of(
        "samplers", f"{DATA}/_buckets.py", "tests/data/test_length_samplers.py",
        ("a row as long as a boundary", 'side="right"', 'side="left"'),
    ),
    *_of(
        "samplers", f"{DATA}/_shard.py", "tests/data/test_length_samplers.py",
        ("one process has most", "totals += tokens[step]", "pass"),
        ("halves are halved no more", "heapq.heappush(largest, (-half, index))", "pass"),
    ),
    *_of(
        "samplers", f"{DATA}/_streams.py", "tests/data/test_streams.py",
        ("the last target", "stream + last + 1)", "stream + last)"),
        ("no stream begins", "windows[0].start % self._stream_length == 0", "False"),
    ),
    *_of(
        "resume", f"{DATA}/_resumable.py", "tests/data",
        ("every epoch starts where one was resumed", "start, self._start = self._start, 0", "start = self._start"),
        ("the last batch is not counted", "self._position = done\n            yield batch",
         "yield batch\n            self._position = done"),
        ("one epoch again and again", "if self._begun:", "if False:"),
        ("a position holds for all epochs", "if epoch != self.epoch:", "if False:"),
        ("another order is continued", "if state.get(name) != value:", "if False:"),
    ),
    *_of(
        "resume", f"{TRAINING}/callbacks.py", "tests/training/test_callbacks.py tests/training/test_resume.py",
        ("random numbers of all steps", "[self.seed, trainer.global_step, trainer.global_rank]", "[self.seed]"),
        ("the best epoch is forgotten", 'self.best = state_dict["best"]', "pass"),
        ("rows of the log twice", "self._write_log(trainer)\n        self._stop_if_due(trainer)",
         "self._stop_if_due(trainer)"),
        ("validation is left out", "if trainer.is_last_batch:", "if False:"),
        ("the best of not a number", 'math.isnan(self.best["val_loss"])', "False"),
    ),
    *_of(
        "resume", f"{TRAINING}/module.py", "tests/training/test_classic_recipes.py",
        ("streams begin anew", 'self._carried["train"] = checkpoint["carried"]', "pass"),
    ),
    *_of(
        "resume", f"{TRAINING}/checkpoint_io.py", "tests/training/test_checkpoint_io.py tests/training/test_resume.py",
        ("checksums are not compared", "if damaged is not None:", "if False:"),
    ),
    *_of(
        "resume", "src/unspool/_writing.py", "tests/training/test_checkpoint_io.py tests/training/test_resume.py",
        ("half a file is left", 'path.with_name(f"{path.name}.part")', "path"),
    ),
]  # fmt: skip
"""All of them."""
