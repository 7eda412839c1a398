"""Lowering: from values to the engine's tables.

A plan says where every value lives and which instructions compute it. Cuts cost nothing: a value that is part of
another one is an operand with an offset. The parts of a concatenation are computed in their places. Scratch is shared
by values that are not needed at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from unspool.program.evaluate import constant
from unspool.program.ir import Value
from unspool.program.operations import NUMBERS, OPERATIONS, VIEWS
from unspool.program.tables import Kind, Mode, Operand, Phase, Place, Storage, Tables


@dataclass
class Planner:
    """Builds tables.

    Attributes
    ----------
    given : dict of Value to Storage
        Where values that are not computed lie.
    kept : dict of Value to Storage
        Where values that are computed must be found afterwards.
    apart : bool
        Whether a product with weights that are stacked becomes one product for each of them, so that nobody needs to
        put them together.
    phase : Phase
        Of the instructions that are planned.
    """

    given: dict[Value, Storage]
    kept: dict[Value, Storage]
    apart: bool = False
    phase: Phase = Phase.STEP
    storages: list[Storage] = field(default_factory=list)
    code: list[list[int]] = field(default_factory=list)
    constants: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    weights: list[tuple[Value, bool]] = field(default_factory=list)
    _index: dict[Storage, int] = field(default_factory=dict)
    _at: dict[Value, Operand] = field(default_factory=dict)
    _owner: dict[Value, Value] = field(default_factory=dict)
    _free: dict[tuple[Place, int], list[int]] = field(default_factory=dict)
    _temp_of: dict[Value, int] = field(default_factory=dict)
    _fetched: dict[tuple[Value, Place], Operand] = field(default_factory=dict)
    _crossing: set[Value] = field(default_factory=set)

    # ------------------------------------------------------------------------------------------ storages

    def storage(self, storage: Storage) -> int:
        """Return the place of a storage in the table."""
        if storage not in self._index:
            self._index[storage] = len(self.storages)
            self.storages.append(storage)
        return self._index[storage]

    def whole(self, storage: Storage) -> Operand:
        """Return a storage as an operand, in its whole width."""
        return Operand(self.storage(storage), 0, Mode.FULL)

    def number(self, value: float) -> int:
        """Return the place of a constant."""
        self.constants.append(float(value))
        return len(self.constants) - 1

    def scalar(self, value: float) -> Operand:
        """Return an operand that is a constant."""
        return Operand(self.storage(Storage(Place.SCALAR, self.number(value), 1)), 0, Mode.SCALAR)

    def nothing(self) -> Operand:
        """Return an operand that is not there."""
        return self.whole(Storage(Place.NONE, -1, 0))

    def _scratch(self, value: Value) -> Operand:
        """Take a free scratch storage of at least this width, or a new one."""
        width = value.width
        place = Place.TEMP if self.phase is Phase.STEP and value not in self._crossing else Place.CHUNK
        fitting = sorted(w for (p, w), free in self._free.items() if p is place and free and width <= w <= 2 * width)
        if fitting:
            index = self._free[place, fitting[0]].pop()
        else:
            index = len(self.storages)
            self.storages.append(Storage(place, -1, width))
        self._temp_of[value] = index
        return Operand(index, 0, Mode.FULL)

    def _fetch(self, value: Value, storage: Storage) -> Operand:
        """Bring a value that instructions cannot read where it lies into scratch, once."""
        for place in (Place.CHUNK, Place.TEMP) if self.phase is Phase.STEP else (Place.CHUNK,):
            if (value, place) in self._fetched:
                return self._fetched[value, place]
        place = Place.TEMP if self.phase is Phase.STEP else Place.CHUNK
        self.storages.append(Storage(place, -1, value.width))
        at = Operand(len(self.storages) - 1, 0, Mode.FULL)
        self.emit(Kind.FETCH, 0, at, value.width, a=self.whole(storage))
        self._fetched[value, place] = at
        return at

    def _readable(self, at: Operand) -> bool:
        return self.phase is Phase.STEP or self.storages[at.storage].place is not Place.TEMP

    def _needs_fetching(self, storage: Storage) -> bool:
        if self.phase is Phase.STEP:
            return storage.place in (Place.PADDED, Place.PADDED_PREVIOUS)
        return storage.place in (Place.PADDED, Place.PADDED_PREVIOUS, Place.PREVIOUS, Place.ROW)

    # ------------------------------------------------------------------------------------------ values

    def locate(self, value: Value) -> Operand | None:
        """Return where a value lies, if it lies anywhere."""
        if value in self._at and self._readable(self._at[value]):
            return self._at[value]
        number = constant(value)
        if number is not None:
            return self.scalar(number)
        if value in self.given:
            storage = self.given[value]
            if self._needs_fetching(storage):
                return self._fetch(value, storage)
            mode = Mode.FULL
            if storage.place is Place.VECTOR:
                mode = Mode.SCALAR if value.width == 1 else Mode.VECTOR
            return Operand(self.storage(storage), 0, mode)
        if value.op in ("reshape", "detach") or (value.op == "expand" and value.args[0].width == value.width):
            return self.locate(value.args[0])
        if value.op == "slice":
            base = self.locate(value.args[0])
            return None if base is None else Operand(base.storage, base.column + value.attrs["start"], base.mode)
        return None

    def operand(self, value: Value, width: int) -> Operand:
        """Return a value as an operand of a pointwise instruction of some width."""
        if value.op == "expand" and value.args[0].width == 1 and value not in self._at:
            return self.operand(value.args[0], width)
        at = self.locate(value)
        if at is None and value.op in ("reshape", "detach"):
            return self.operand(value.args[0], width)
        assert at is not None, f"{value} has no place"
        if value.width == 1 and width > 1 and at.mode is Mode.FULL:
            return Operand(at.storage, at.column, Mode.ROW_SCALAR)
        return at

    def matrix(self, value: Value) -> Operand:
        """Return a value as one vector per sequence in memory, copied where it is not."""
        at = self.locate(value)
        if at is None or at.mode is not Mode.FULL:
            source = self.operand(value, value.width)
            at = self._scratch(value)
            self.emit(Kind.UNARY, NUMBERS["copy"], at, value.width, a=source)
            self._at[value] = at
        return at

    def emit(
        self, kind: Kind, op: int, dst: Operand, width: int, *, groups: int = 1, a: Operand | None = None,
        b: Operand | None = None, c: Operand | None = None, weight: int = -1, imm: Iterable[float] = (),
    ) -> None:  # fmt: skip
        """Append an instruction."""
        none = self.nothing()
        numbers = [*map(self.number, imm), -1, -1][:2]
        operands = [column for x in (a, b, c) for column in (x or none).row()]
        self.code.append([kind, op, *dst.row(), width, groups, *operands, weight, *numbers, self.phase])

    def per_token(self, value: Value) -> Operand:
        """Return a value as one vector per valid step, which is there after a chunk."""
        while value.op in ("reshape", "detach"):
            value = value.args[0]
        carried = value in self.given and self.given[value].place is Place.ROW and value.op == "grad_state"
        if not carried:
            self.phase = Phase.AFTER
            return self.matrix(value)
        self.phase = Phase.STEP
        self._crossing.add(value)
        at, source = self._scratch(value), self.operand(value, value.width)
        self.emit(Kind.UNARY, NUMBERS["copy"], at, value.width, a=source)
        self.phase = Phase.AFTER
        return at

    def store(self, value: Value, storage: Storage, phase: Phase) -> None:
        """Append the storing of a value into a padded array."""
        self.phase = phase
        at = self.matrix(value)
        self.emit(Kind.STORE, 0, self.whole(storage), value.width, a=at)

    def copy(self, value: Value, storage: Storage) -> None:
        """Append a copy of a value to a storage."""
        dst = self.whole(storage)
        if self.locate(value) != dst:
            self.emit(Kind.UNARY, NUMBERS["copy"], dst, value.width, a=self.operand(value, value.width))

    def weight(self, value: Value, transposed: bool) -> int:
        """Return the place of a weight."""
        if (value, transposed) not in self.weights:
            self.weights.append((value, transposed))
        return self.weights.index((value, transposed))

    # ------------------------------------------------------------------------------------------ whole plans

    def compute(
        self, values: list[Value], needed_after: Iterable[Value], phases: dict[Value, Phase], late: Iterable[Value] = ()
    ) -> None:
        """Plan all values, in order of phases.

        Those of `needed_after` stay readable until the end, and those of `late` also after a chunk.
        """
        order = [Phase.BEFORE, Phase.STEP, Phase.AFTER]
        values = sorted(values, key=lambda v: order.index(phases[v]))
        last = self._last_uses(values, set(needed_after))
        self._crossing = self._find_crossing(values, phases) | {o for value in late for o in self._owners(value)}
        self._place_parts(values)
        for index, value in enumerate(values):
            self.phase = phases[value]
            if value not in self.given:
                self._compute(value)
            for dead in last.get(index, ()):
                storage = self._temp_of.pop(dead, None)
                if storage is not None:
                    freed = self.storages[storage]
                    self._free.setdefault((freed.place, freed.width), []).append(storage)

    def _owners(self, value: Value) -> list[Value]:
        """Return the values in whose places a value lies, itself among them."""
        found = [value]
        if value.op in VIEWS:
            found += self._owners(value.args[0])
        if value in self._owner:
            found += self._owners(self._owner[value])
        return found

    def _find_crossing(self, values: list[Value], phases: dict[Value, Phase]) -> set[Value]:
        """Return the values that one phase computes and another one reads."""
        crossing: set[Value] = set()
        for value in values:
            for used in (*value.args, *([self._owner[value]] if value in self._owner else [])):
                if used in phases and phases[used] is not phases[value]:
                    crossing.update(self._owners(used))
                    crossing.update(self._owners(value) if value in self._owner else [])
        return crossing

    def _last_uses(self, values: list[Value], forever: set[Value]) -> dict[int, list[Value]]:
        """Return for each place in the order which values are needed there for the last time."""
        for value in values:
            if value.op == "concat":
                for part in value.args:
                    if self._can_move(part):
                        self._owner.setdefault(part, value)
        last: dict[Value, int] = {}
        for index, value in enumerate(values):
            for used in (value, *value.args):
                for owner in self._owners(used):
                    last[owner] = index
        for value in forever:
            for owner in self._owners(value):
                last[owner] = len(values)
        by_index: dict[int, list[Value]] = {}
        for value, index in last.items():
            by_index.setdefault(index, []).append(value)
        return by_index

    def _can_move(self, part: Value) -> bool:
        return part not in self.given and part.op not in VIEWS and constant(part) is None

    def _place_parts(self, values: list[Value]) -> None:
        """Let the parts of concatenations be computed in their places."""
        self._parts: dict[Value, tuple[Value, int]] = {}
        for value in values:
            if value.op == "concat":
                start = 0
                for part in value.args:
                    if self._owner.get(part) is value and part not in self._parts:
                        self._parts[part] = (value, start)
                    start += part.width

    def _destination(self, value: Value) -> Operand:
        """Return where a value that is computed goes."""
        if value in self._at:
            return self._at[value]
        if value in self.kept:
            at = self.whole(self.kept[value])
        elif value in self._parts:
            whole, start = self._parts[value]
            base = self._destination(whole)
            at = Operand(base.storage, base.column + start, Mode.FULL)
        else:
            at = self._scratch(value)
        self._at[value] = at
        return at

    def _compute(self, value: Value) -> None:
        op, args, width = value.op, value.args, value.width
        if op in ("slice", "reshape", "detach") or (op == "expand" and args[0].width in (1, width)):
            if self.locate(value) is None and args[0].op == "expand":
                self.matrix(args[0])
            return
        if op == "product":
            x = self.matrix(args[0])
            third = args[2:]
            addend = self.operand(third[0], width) if third else None
            if addend is not None and addend.mode not in (Mode.FULL, Mode.VECTOR):
                addend = self.matrix(third[0])
            at, transposed = self._destination(value), bool(value.attrs.get("transposed"))
            start = 0
            for weight in self._weights_of(args[1]) if self.apart and not transposed else [args[1]]:
                n = width if transposed else weight.shape[0]
                place = self.weight(weight, transposed)
                self.emit(Kind.PRODUCT, 0, _from(at, start), n, a=x, b=addend and _from(addend, start), weight=place)
                start += n
        elif OPERATIONS[op].kind == "reduce":
            x = self.matrix(args[0])
            self.emit(Kind.REDUCE, NUMBERS[op], self._destination(value), args[0].width, groups=value.width, a=x)
        elif op == "expand":
            self._expand(value)
        elif op in ("gather", "scatter"):
            x, first = self.matrix(args[0]), len(self.indices)
            self.indices += value.attrs["index"]
            kind = Kind.GATHER if op == "gather" else Kind.SCATTER
            self.emit(kind, 0, self._destination(value), width, groups=args[0].width, a=x, weight=first)
        elif op == "concat":
            at, start = self._destination(value), 0
            for part in args:
                place = Operand(at.storage, at.column + start, Mode.FULL)
                if self.locate(part) != place:
                    self.emit(Kind.UNARY, NUMBERS["copy"], place, part.width, a=self.operand(part, part.width))
                start += part.width
        else:
            kind = Kind[OPERATIONS[op].kind.upper()]
            a, b, c = [*(self.operand(x, width) for x in args), None, None][:3]
            constants = value.attrs.get("imm", ())
            self.emit(kind, NUMBERS[op], self._destination(value), width, a=a, b=b, c=c, imm=constants)

    def _weights_of(self, weight: Value) -> list[Value]:
        """Return the weights that are stacked in one, or itself."""
        if weight.op != "stack_rows":
            return [weight]
        return [part for stacked in weight.args for part in self._weights_of(stacked)]

    def _expand(self, value: Value) -> None:
        """Plan a repetition: of each feature, or of all of them."""
        source, width = value.args[0], value.width
        if source.shape[-1:] == (1,) and source.width * value.shape[-1] == width:
            a, dst = self.matrix(source), self._destination(value)
            self.emit(Kind.REPEAT, 0, dst, width, groups=source.width, a=a)
            return
        a, dst = self.operand(source, source.width), self._destination(value)
        for start in range(0, width, source.width):
            place = Operand(dst.storage, dst.column + start, Mode.FULL)
            self.emit(Kind.UNARY, NUMBERS["copy"], place, source.width, a=a)

    def tables(self) -> Tables:
        """Return the finished tables."""
        storages = [[int(s.place), s.array, s.width, s.first] for s in self.storages]
        return Tables(
            np.array(storages, dtype=np.int64).reshape(-1, 4),
            np.array(self.code, dtype=np.int64).reshape(-1, 20),
            self.constants,
            self.indices,
            self.weights,
        )


def _from(at: Operand, column: int) -> Operand:
    """Return what begins so many columns further."""
    return Operand(at.storage, at.column + column, at.mode)
