from collections import Counter

import pytest
import torch

from tests.data.real import directory_with
from unspool.data import DataError, load_names
from unspool.data.datasets import NAME_CHARACTERS, names

TEXTS = {"Czech": "Adam\nBaz\nČep\nDan \n", "Dutch": "Adam\nAdam\nEs Jo\nF/g\nHo\n\n"}


def write(directory, texts=TEXTS):
    directory.mkdir(parents=True, exist_ok=True)
    for language, text in texts.items():
        (directory / f"{language}.txt").write_text(text, encoding="utf-8")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A directory with files of two languages, which the loader then takes for all."""
    monkeypatch.setattr(names, "LANGUAGES", {"Czech": 4, "Dutch": 5})
    monkeypatch.setattr(names, "WANTED", names.WANTED._replace(names=["Czech.txt"]))
    write(tmp_path / "names")
    return tmp_path


def decoded(dataset):
    alphabet = f"_?{NAME_CHARACTERS}"
    return [
        ("".join(alphabet[number] for number in tokens.tolist()), dataset.class_names[label])
        for tokens, label in (dataset[index] for index in range(len(dataset)))
    ]


def test_characters_have_the_documented_numbers():
    assert NAME_CHARACTERS[:4] == " '-A"
    assert len(NAME_CHARACTERS) == len(set(NAME_CHARACTERS)) == 82
    marked = NAME_CHARACTERS[55:]
    assert marked == "".join(sorted(marked))


def test_every_row_is_in_one_part(small):
    train, test = (load_names(split, test_share=0.3, data_dir=small) for split in ("train", "test"))
    rows = decoded(train) + decoded(test)
    assert sorted(rows) == sorted(
        [(name, "Czech") for name in ("Adam", "Baz", "?ep", "Dan")]
        + [(name, "Dutch") for name in ("Adam", "Adam", "Es Jo", "F?g", "Ho")]
    )
    assert not {name for name, _ in decoded(train)} & {name for name, _ in decoded(test)}
    assert len({name for name, _ in decoded(test)}) == 2
    assert train.class_names == ("Czech", "Dutch")
    assert train.num_words == 84
    assert train[0][0].dtype == torch.int64


def test_the_split_depends_on_the_seed_alone(small):
    def rows(seed):
        return tuple(decoded(load_names("test", test_share=0.3, seed=seed, data_dir=small)))

    assert rows(1) == rows(1)
    assert len({rows(seed) for seed in range(6)}) > 1


def test_lines_beyond_those_of_the_set_are_read(small):
    write(small / "names", {"Czech": TEXTS["Czech"] + "Novak\n"})
    assert sum(len(load_names(split, test_share=0.3, data_dir=small)) for split in ("train", "test")) == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Adam\nEs\n", r"2 surnames; expected 5"),
        ("", r"0 surnames; expected 5"),
        ("A\nB\x00\nC\nD\nE\n", r"control characters"),
    ],
)
def test_damaged_files_are_named(small, text, message):
    write(small / "names", {"Dutch": text})
    with pytest.raises(DataError, match=rf"Dutch\.txt.*{message}"):
        load_names("train", data_dir=small)


def test_missing_files_are_named(small, tmp_path):
    (small / "names" / "Dutch.txt").write_bytes("Müller\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"Dutch\.txt, line 1: byte 1 .* is 0xfc, which is not utf-8 .*\nFetch"):
        load_names("train", data_dir=small)
    (small / "names" / "Dutch.txt").unlink()
    with pytest.raises(DataError, match=r"Dutch\.txt: cannot be read \(No such file"):
        load_names("train", data_dir=small)
    with pytest.raises(DataError, match=r"no surnames in .*Czech\.txt.*\n.*pytorch"):
        load_names("train", data_dir=tmp_path / "none")


def test_arguments_are_checked(small):
    with pytest.raises(DataError, match="received split='dev'"):
        load_names("dev", data_dir=small)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="received a share of 1"):
        load_names("test", test_share=1, data_dir=small)


def test_the_real_names():
    directory = directory_with("names/Arabic.txt")
    train, test = (load_names(split, data_dir=directory) for split in ("train", "test"))
    lines = Counter(
        (line.strip(), path.stem)
        for path in (directory / "names").glob("*.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
    )
    assert Counter(decoded(train) + decoded(test)) == lines - Counter({("Maxa/B", "Czech"): 1}) + Counter(
        {("Maxa?B", "Czech"): 1}
    ), "a slash is the only character without a number"
    assert (len(train), len(test)) == (16052, 3998)
    distinct = [{name for name, _ in decoded(part)} for part in (train, test)]
    assert [len(part) for part in distinct] == [13960, 3490]
    assert not distinct[0] & distinct[1]
    assert (int(test.labels.min()), int(test.labels.max())) == (0, 17)
    assert int(torch.cat([train.lengths, test.lengths]).max()) == 20
