import hashlib

import pytest
import torch

from tests.data.real import directory_with
from unspool.data import DataError, StreamLoader, load_tiny_shakespeare
from unspool.data.datasets import tiny_shakespeare

TEXT = "To be, or not to be:\nthat is the question." * 3
SPLITS = ("train", "validation", "test")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A directory with a short text, which the loader then takes for Tiny Shakespeare."""
    path = tmp_path / "tinyshakespeare" / "input.txt"
    path.parent.mkdir()
    path.write_bytes(TEXT.encode())
    address = tiny_shakespeare.ADDRESS._replace(checksum=f"sha256:{hashlib.sha256(TEXT.encode()).hexdigest()}")
    monkeypatch.setattr(tiny_shakespeare, "ADDRESS", address)
    return tmp_path


def decoded(part):
    return "".join(part.characters[number] for number in part.tokens.tolist())


def test_the_parts_make_up_the_text(small):
    parts = [load_tiny_shakespeare(split, data_dir=small) for split in SPLITS]
    assert [len(part.tokens) for part in parts] == [113, 6, 7], "126 characters"
    assert "".join(map(decoded, parts)) == TEXT
    assert {part.characters for part in parts} == {"".join(sorted(set(TEXT)))}
    assert parts[0].tokens.dtype == torch.int64


def test_other_files_are_refused(small, tmp_path):
    path = small / "tinyshakespeare" / "input.txt"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DataError, match=r"input\.txt: damaged, or another file: 127 bytes"):
        load_tiny_shakespeare("train", data_dir=small)
    with pytest.raises(DataError, match=r"no Tiny Shakespeare in .*input\.txt"):
        load_tiny_shakespeare("train", data_dir=tmp_path / "none")
    with pytest.raises(DataError, match="received split='valid'"):
        load_tiny_shakespeare("valid", data_dir=small)  # pyright: ignore[reportArgumentType]


def test_the_real_text():
    directory = directory_with("tinyshakespeare/input.txt")
    parts = [load_tiny_shakespeare(split, data_dir=directory) for split in SPLITS]
    assert [len(part.tokens) for part in parts] == [1003854, 55770, 55770]
    assert decoded(parts[0])[:61] == "First Citizen:\nBefore we proceed any further, hear me speak.\n"
    assert decoded(parts[2]).endswith("Whiles thou art waking.\n")
    assert len(parts[0].characters) == 65
    assert parts[1].characters.startswith("\n !$&',-.3:;?ABC")
    loader = StreamLoader(parts[1].tokens, 16, 100)
    assert sum(batch.targets.numel() for batch in loader) == 16 * (55769 // 16)
