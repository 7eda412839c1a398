import pytest
import torch

from tests.data.real import directory_with
from unspool.data import DataError, load_promoters, load_splice
from unspool.data.datasets import NUCLEOTIDES, dna

SPLICE = """EI,     ONE,     ACGTN
EI,TWO,ACGTN
IE,THREE,TTTTT
IE,FOUR,DRSTT
N,FIVE,CCCCC
N,SIX,TTTTT
N,SEVEN,GGGGG

"""
PROMOTERS = "+,A,\t\tacg\n+,B,\tccc\n-,C,\t\tttt\n-,D,\taaa\n"


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A directory with both files, of a few short rows."""
    monkeypatch.setattr(dna, "SPLICE_SITES", {"EI": 2, "IE": 2, "N": 3})
    monkeypatch.setattr(dna, "PROMOTERS", {"-": 2, "+": 2})
    read = dna._read
    monkeypatch.setattr(dna, "_read", lambda path, classes, length: read(path, classes, {60: 5, 57: 3}[length]))
    for name, text in (("splice", SPLICE), ("promoters", PROMOTERS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.data").write_text(text)
    return tmp_path


def decoded(dataset):
    alphabet = f"_{NUCLEOTIDES}"
    rows = [dataset[index] for index in range(len(dataset))]
    return [("".join(alphabet[number] for number in tokens.tolist()), label) for tokens, label in rows]


def test_equal_sequences_are_on_one_side(small):
    for seed in range(4):
        train, test = (load_splice(split, test_share=0.4, seed=seed, data_dir=small) for split in ("train", "test"))
        assert sorted(decoded(train) + decoded(test)) == sorted(
            [("ACGTN", 0), ("ACGTN", 0), ("TTTTT", 1), ("DRSTT", 1), ("CCCCC", 2), ("TTTTT", 2), ("GGGGG", 2)]
        )
        assert not {text for text, _ in decoded(train)} & {text for text, _ in decoded(test)}
        assert len({text for text, _ in decoded(test)}) == 2
        assert train.class_names == ("EI", "IE", "N")
        assert train.num_words == 9


def test_bases_are_1_to_4_and_ambiguous_ones_follow(small):
    assert NUCLEOTIDES == "ACGTNDRS"
    parts = [load_splice(split, data_dir=small) for split in ("train", "test")]
    rows = [part[index][0] for part in parts for index in range(len(part))]
    assert rows[0].dtype == torch.int64
    numbers = [row.tolist() for row in rows]
    assert [1, 2, 3, 4, 5] in numbers, "ACGTN"
    assert [6, 7, 8, 4, 4] in numbers, "DRSTT"


def test_each_row_is_tested_on_once(small):
    tested = []
    for fold in range(2):
        train, test = (load_promoters(split, fold=fold, folds=2, data_dir=small) for split in ("train", "test"))
        assert sorted(decoded(train) + decoded(test)) == [("AAA", 0), ("ACG", 1), ("CCC", 1), ("TTT", 0)]
        assert test.labels.sort().values.tolist() == [0, 1]
        tested += decoded(test)
    assert sorted(tested) == [("AAA", 0), ("ACG", 1), ("CCC", 1), ("TTT", 0)]
    alone = [decoded(load_promoters("test", fold=fold, folds=4, data_dir=small)) for fold in range(4)]
    assert sorted(row for (row,) in alone) == sorted(tested)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SPLICE.replace("N,SIX,TTTTT\n", ""), "rows of each class {'EI': 2, 'IE': 2, 'N': 2}; expected"),
        ("", "rows of each class {}; expected"),
        (SPLICE[:-4], "line 7: 'GGG'; expected 5 letters of ACGTNDRS"),
        (SPLICE.replace("CCCCC", "CCXCC"), "line 5: 'CCXCC'; expected 5 letters"),
        (SPLICE.replace("N,FIVE", "X,FIVE"), "line 5: 'X,FIVE,CCCCC'; expected a class"),
        (SPLICE.replace("N,FIVE,", "N,FIVE"), "line 5: 'N,FIVECCCCC'; expected a class"),
        (SPLICE.replace("FIVE", "FI\0E"), "line 5: .*control characters"),
    ],
    ids=["a row less", "empty", "cut", "another letter", "another class", "two fields", "control character"],
)
def test_damaged_files_are_refused(small, text, message):
    (small / "splice" / "splice.data").write_text(text)
    with pytest.raises(DataError, match=rf"splice\.data.*{message}"):
        load_splice("train", data_dir=small)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no splice junctions in .*splice\.data.*\n.*archive\.ics\.uci\.edu"):
        load_splice("train", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"no promoters in .*promoters\.data.*\n.*archive\.ics\.uci\.edu"):
        load_promoters("train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fold": 2, "folds": 2}, "received fold=2; expected 0 to 1 of 2 folds"),
        ({"fold": -1}, "received fold=-1"),
        ({"folds": 1}, "received folds=1; expected 2 to 4"),
        ({"folds": 5}, "received folds=5; expected 2 to 4"),
        ({"split": "dev"}, "received split='dev'"),
    ],
)
def test_arguments_are_checked(small, arguments, message):
    with pytest.raises(DataError, match=message):
        load_promoters(**{"split": "train", "data_dir": small, **arguments})
    with pytest.raises(DataError, match="received split='dev'"):
        load_splice("dev", data_dir=small)  # pyright: ignore[reportArgumentType]


def test_the_real_splice_junctions():
    directory = directory_with("splice/splice.data")
    parts = [decoded(load_splice(split, data_dir=directory)) for split in ("train", "test")]
    assert [len(part) for part in parts] == [2555, 635]
    labels = [label for part in parts for _, label in part]
    assert [labels.count(label) for label in range(3)] == [767, 768, 1655]
    distinct = [{text for text, _ in part} for part in parts]
    assert [len(part) for part in distinct] == [2404, 601]
    assert not distinct[0] & distinct[1]
    assert all(len(text) == 60 for part in distinct for text in part)
    assert sum(text.count("N") for part in parts for text, _ in part) == 56
    first = "CCAGCTGCATCACAGGAGGCCAGCGAGCAGGTCTGTTCCAAGGGCCTTCGAGCCAGTCTG"
    assert (first, 0) in parts[0] + parts[1]


def test_the_real_promoters():
    directory = directory_with("promoters/promoters.data")
    folds = [decoded(load_promoters("test", fold=fold, data_dir=directory)) for fold in range(10)]
    assert sorted(map(len, folds)) == [10] * 4 + [11] * 6
    rows = {row for fold in folds for row in fold}
    assert len(rows) == 106
    assert sum(label for _, label in rows) == 53
    assert ("TACTAGCAATACGCTTGCGTTCGGTGGTTAAGTATGTATAATGCGCGGGCTTGTCGT", 1) in rows
    assert len(load_promoters("train", fold=105, folds=106, data_dir=directory)) == 105
