import hashlib
import json

import pytest
import torch

from tests.data.real import directory_with
from unspool.data import DataError, load_chorales
from unspool.data.datasets import chorales

SMALL = {"train": [[[21, 108], [], [60, 64]]], "valid": [[[60], [61]]], "test": [[[62], [63], [64], [65]], [[60], []]]}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A directory with four short pieces, which the loader then takes for the chorales."""
    content = json.dumps(SMALL).encode()
    path = tmp_path / "jsb_chorales" / chorales.FILE
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.setattr(
        chorales, "ADDRESS", chorales.ADDRESS._replace(checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    )
    return tmp_path


def pitches(roll):
    return [(row.nonzero().flatten() + 21).tolist() for row in roll]


def test_targets_are_the_next_chords(small):
    train = load_chorales("train", data_dir=small)
    inputs, targets = train[0]
    assert inputs.dtype == targets.dtype == torch.float32
    assert inputs.shape == targets.shape == (2, 88)
    assert pitches(inputs) == [[21, 108], []]
    assert pitches(targets) == [[], [60, 64]]
    assert set(inputs.unique().tolist()) == {0, 1}
    assert load_chorales("test", data_dir=small).lengths.tolist() == [3, 1]
    assert pitches(load_chorales("validation", data_dir=small)[0][1]) == [[61]]


def test_other_files_are_refused(small, tmp_path):
    path = small / "jsb_chorales" / chorales.FILE
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(
        DataError, match=r"quarter\.json: damaged, or another file: .*sha256.*Fetch it again from https"
    ):
        load_chorales("train", data_dir=small)
    with pytest.raises(DataError, match=r"no JSB Chorales in .*quarter\.json"):
        load_chorales("train", data_dir=tmp_path / "none")
    with pytest.raises(DataError, match="received split='valid'"):
        load_chorales("valid", data_dir=small)  # pyright: ignore[reportArgumentType]


def test_the_real_chorales():
    directory = directory_with(f"jsb_chorales/{chorales.FILE}")
    parts = {split: load_chorales(split, data_dir=directory) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [229, 76, 77]
    assert [int(part.lengths.sum()) for part in parts.values()] == [13807 - 229, 4602 - 76, 4725 - 77]
    inputs, targets = parts["test"][0]
    assert pitches(inputs)[:4] == [[72, 76, 79, 84], [72, 76, 79, 84], [71, 74, 79, 86], [73, 77, 81, 88]]
    assert pitches(inputs)[6] == [], "a rest"
    assert torch.equal(inputs[1:], targets[:-1])
    assert int(parts["test"].lengths.max()) == 159
    sounding = torch.cat(
        [torch.cat([inputs[:1], targets]) for inputs, targets in map(parts["train"].__getitem__, range(229))]
    )
    voices = torch.bincount(sounding.sum(1).long())
    assert voices.tolist() == [18, 6, 9, 1296, 12478]
