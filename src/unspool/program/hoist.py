"""Moving everything that can leave the time loop out of it.

The pass rewrites a program so that as much as possible stands below level `state`:

- a product over a concatenation is split into products of its parts, so that the input's part can leave;
- products of one value with several weights become one product;
- sums are regrouped so that what does not depend on the state is added up outside, and the rest is added by the
  product itself (its third argument).
"""

from __future__ import annotations

from collections.abc import Callable

from unspool.program.ir import LEAVES, LEVELS, Program, Value


def hoist(program: Program) -> Program:
    """Return an equal program with less in its loop."""
    for rewrite in (_split_products, _merge_products, _regroup_sums):
        program = rewrite(program)
    return program


Rule = Callable[["Rewriter", Value, list[Value]], Value | None]


class Rewriter:
    """Copies a program value by value; a rule may put something else in a value's place.

    Equal operations on equal arguments become one.
    """

    def __init__(self, program: Program, rule: Rule) -> None:
        self.old, self.new, self.rule = program, Program(), rule
        self.map: dict[Value, Value] = {}
        self._seen: dict[object, Value] = {}
        self.uses: dict[Value, int] = {}
        for value in program.live():
            for arg in value.args:
                self.uses[arg] = self.uses.get(arg, 0) + 1
        for value in (*program.outputs, *program.new_states):
            self.uses[value] = self.uses.get(value, 0) + 1

    def run(self) -> Program:
        """Return the new program."""
        # Parameter leaves first: weights of merged products must be there before the first of them is needed.
        values = self.old.live()
        for value in sorted(values, key=lambda v: (v.level != "param", v.id)):
            args = [self.map[a] for a in value.args]
            new = None if value.op in LEAVES else self.rule(self, value, args)
            self.map[value] = self.emit_like(value, args) if new is None else new
        self.new.outputs = [self.map[v] for v in self.old.outputs]
        self.new.new_states = [self.map[v] for v in self.old.new_states]
        return self.new

    def emit_like(self, value: Value, args: list[Value]) -> Value:
        """Append a copy of a value over new arguments."""
        if value.op in LEAVES and value.op != "constant":
            return self.new.add(value.op, args, value.shape, value.level, value.source, **value.attrs)
        return self.emit(value.op, args, value.shape, value.source, **value.attrs)

    def emit(self, op: str, args: list[Value], shape: tuple[int, ...], source: str = "", **attrs: object) -> Value:
        """Append an operation, or return the one that is there already."""
        if op == "reshape" and args[0].shape == shape:
            return args[0]
        key = (op, tuple(a.id for a in args), shape, repr(attrs))
        if key not in self._seen:
            self._seen[key] = self.new.add(op, args, shape, None, source, **attrs)
        return self._seen[key]

    def sum(self, a: Value, b: Value, source: str) -> Value:
        """Append a sum of two values, one of which may be one per sequence or for all sequences."""
        wider = a.width < b.width or (a.level == "param" and b.level != "param" and a.width == b.width)
        shape = b.shape if wider or len(a.shape) < len(b.shape) else a.shape
        return self.emit("add", [a, b], shape, source)


def _split_products(program: Program) -> Program:
    def rule(rewriter: Rewriter, value: Value, args: list[Value]) -> Value | None:
        if value.op != "product" or args[0].op != "concat":
            return None
        levels = {a.level for a in args[0].args}
        if len(levels) == 1 or "param" in levels:
            return None
        total, start = None, 0
        for part in args[0].args:
            columns = rewriter.emit(
                "columns", [args[1]], (args[1].shape[0], part.width), value.source, start=start, stop=start + part.width
            )
            flat = rewriter.emit("reshape", [part], (part.width,), value.source)
            piece = rewriter.emit("product", [flat, columns], value.shape, value.source)
            total = piece if total is None else rewriter.sum(total, piece, value.source)
            start += part.width
        return total

    return Rewriter(program, rule).run()


def _merge_products(program: Program) -> Program:
    groups: dict[Value, list[Value]] = {}
    for value in program.live():
        if value.op == "product":
            groups.setdefault(value.args[0], []).append(value)
    merged: dict[Value, Value] = {}

    def rule(rewriter: Rewriter, value: Value, args: list[Value]) -> Value | None:
        if value.op != "product" or len(groups[value.args[0]]) == 1:
            return None
        group = groups[value.args[0]]
        if value.args[0] not in merged:
            weights = [rewriter.map[v.args[1]] for v in group]
            rows = sum(w.shape[0] for w in weights)
            stacked = rewriter.emit("stack_rows", weights, (rows, weights[0].shape[1]), value.source)
            merged[value.args[0]] = rewriter.emit("product", [args[0], stacked], (rows,), value.source)
        start = sum(v.width for v in group[: group.index(value)])
        return rewriter.emit(
            "slice", [merged[value.args[0]]], value.shape, value.source, start=start, stop=start + value.width
        )

    return Rewriter(program, rule).run()


def _regroup_sums(program: Program) -> Program:
    uses = Rewriter(program, lambda *_: None).uses

    def terms(value: Value, root: bool = True) -> list[Value]:
        """Return what a chain of additions of values of one shape adds up."""
        inner = value.op == "add" and value.level != "param" and (root or uses[value] == 1)
        if not inner or any(a.shape != value.shape and a.level != "param" for a in value.args):
            return [value]
        return [t for a in value.args for t in terms(a, root=False)]

    def is_free_product(term: Value) -> bool:
        return term.op == "product" and uses[term] == 1 and len(term.args) == 2

    def rule(rewriter: Rewriter, value: Value, _: list[Value]) -> Value | None:
        found = terms(value)
        if len(found) == 1:
            return None
        total: Value | None = None
        # From the parameters to the state; within a level the products first, which add what there is by themselves.
        for term in sorted(found, key=lambda t: (LEVELS.index(t.level), not is_free_product(t))):
            new = rewriter.map[term]
            if total is not None and is_free_product(term) and total.width == value.width:
                total = rewriter.emit("product", [*new.args, total], value.shape, value.source)
            else:
                total = new if total is None else rewriter.sum(total, new, value.source)
        return total

    return Rewriter(program, rule).run()
