"""Ways to damage a file: its bytes, a member of its archive under a right checksum, the values in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import torch

Mutation = Callable[[Random, bytes], bytes]

_ODD_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
_ODD_TEXTS = (b"", b"\0", b"\xff\xfe", b"9" * 400, b"[" * 3000, b"nan", b"-1", b"null", b"\xed\xa0\x80", b"1e999", b'"')


def damaged(rng: Random, content: bytes) -> bytes:
    """Change some bytes: flip, overwrite, cut out, double, cut off, put in."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.choice(_ODD_BYTES)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randrange(1, 200)]
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
        elif kind == 5:
            data[at:at] = rng.choice(_ODD_TEXTS)
        else:
            data[at : at + 4] = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1)).to_bytes(
                4, rng.choice(("big", "little"))
            )
    return bytes(data)


def in_archive(change: Mutation = damaged) -> Mutation:
    """Damage one member of a zip archive, and give it the checksum that it has then."""

    def mutate(rng: Random, content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        name = rng.choice(list(members))
        kind = rng.randrange(12)
        if kind == 0:
            del members[name]
        elif kind == 1:
            members[name + "x"] = members.pop(name)
        else:
            members[name] = change(rng, members[name])
        packed = io.BytesIO()
        with zipfile.ZipFile(
            packed, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
        ) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        return packed.getvalue()

    return mutate


_ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 2**31, 2**70, 10**400, -0.5, 0.5, float("nan"), float("inf"), "", "x", "9", "\ud800"),
    *([], [1], [[]], {}, {"x": 1}, {1: 2}, "[" * 500, "\x1b[31m", 200_000),
)


def altered(rng: Random, tree: Any, odd: tuple[Any, ...] = _ODD_VALUES) -> Any:
    """Replace, remove or add a value somewhere in a nest of dicts and lists, which is changed itself."""
    node, holder = tree, None
    key: Any = None
    while isinstance(node, dict | list) and node and rng.random() < 0.9:
        holder, key = node, rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = holder[key]
    if holder is None:
        return rng.choice(odd)
    kind = rng.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[rng.choice(("x", "", "class", "9" * 50))] = holder[key]
    elif kind == 2 and isinstance(holder, list):
        holder.append(node)
    else:
        holder[key] = rng.choice(odd)
    return tree


def altered_tensors(rng: Random, content: bytes) -> bytes:
    """Alter the values in a file of `torch.save`."""
    one = torch.ones(())
    odd = (
        *(one, one.expand(10**12), torch.zeros(0), torch.full((9,), float("nan")), torch.ones(3, dtype=torch.int64)),
        *(torch.ones(2, 2).to_sparse(), torch.ones(1, device="meta"), torch.nn.Parameter(one)),
    )
    tree = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(rng.choice((1, 1, 2))):
        tree = altered(rng, tree, _ODD_VALUES if rng.random() < 0.7 else odd)
    written = io.BytesIO()
    torch.save(tree, written)
    return written.getvalue()
