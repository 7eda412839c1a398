import hashlib

import pytest

from tests.data.serving import serving
from unspool.data import DataError, MissingDataError
from unspool.data.datasets._find import Address, Wanted, find
from unspool.data.datasets._read import read_lines, read_verified

CONTENT = b"some text"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WANTED = Wanted("the set", "folder", ["a.txt", "b"], "It is at home")


@pytest.fixture(autouse=True)
def no_directory_is_named(monkeypatch):
    monkeypatch.delenv("UNSPOOL_DATA_DIR", raising=False)


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_directory_may_be_that_of_all_sets_or_of_this_one(tmp_path):
    path = put(tmp_path / "folder" / "a.txt")
    assert find(WANTED, tmp_path, None) == path
    assert find(WANTED, str(path.parent), None) == path
    (tmp_path / "other" / "b").mkdir(parents=True)
    assert find(WANTED, tmp_path / "other", None) == tmp_path / "other" / "b", "any of the names will do"


def test_the_variable_names_a_directory_where_no_argument_does(tmp_path, monkeypatch):
    path = put(tmp_path / "one" / "a.txt")
    other = put(tmp_path / "two" / "a.txt")
    monkeypatch.setenv("UNSPOOL_DATA_DIR", str(path.parent))
    assert find(WANTED, None, None) == path
    assert find(WANTED, other.parent, None) == other


def test_nothing_else_is_looked_at_where_a_directory_is_named(tmp_path):
    put(tmp_path / "cache" / "folder" / "a.txt")
    with pytest.raises(DataError) as caught:
        find(WANTED, tmp_path / "empty", tmp_path / "cache")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    for name in ("folder/a.txt", "folder/b", "a.txt", "b"):
        assert str(tmp_path / "empty" / name) in lines[0]
    assert "It is at home" in lines[1]
    assert "UNSPOOL_DATA_DIR" in lines[1]


def test_the_cache_is_next(tmp_path, monkeypatch):
    path = put(tmp_path / "cache" / "folder" / "a.txt")
    assert find(WANTED, None, tmp_path / "cache") == path
    monkeypatch.setenv("UNSPOOL_CACHE_DIR", str(tmp_path / "cache"))
    assert find(WANTED, None, None) == path


def test_without_an_address_nothing_is_downloaded(tmp_path):
    with pytest.raises(
        DataError, match=r"expected .*cache/folder/a\.txt or .*cache/folder/b\.\n.*It is at home.*data_dir"
    ):
        find(WANTED, None, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_download_goes_to_the_cache(tmp_path):
    put(tmp_path / "source" / "a.txt")
    with serving(tmp_path / "source") as base:
        address = Address([base], f"sha256:{SHA256}")
        path = find(WANTED._replace(address=address), None, tmp_path / "cache")
        assert path == tmp_path / "cache" / "folder" / "a.txt"
        assert read_verified(path, address) == CONTENT
        put(tmp_path / "source" / "a.txt", b"another text")
        with pytest.raises(DataError, match="does not match the known hash"):
            find(WANTED._replace(address=address), None, tmp_path / "other")
    assert list((tmp_path / "other" / "folder").iterdir()) == []


def test_the_best_name_goes_before_the_nearest_place(tmp_path):
    put(tmp_path / "folder" / "b")
    path = put(tmp_path / "a.txt")
    assert find(WANTED, tmp_path, None) == path


@pytest.mark.parametrize("address", [None, Address(["https://nowhere/"], None), Address([], f"sha256:{SHA256}")])
def test_what_is_missing_gets_one_kind_of_error(tmp_path, address):
    wanted = WANTED._replace(address=address)
    with pytest.raises(MissingDataError):
        find(wanted, None, tmp_path)
    with pytest.raises(
        MissingDataError, match=r"\n.*data_dir \(--data-dir\) or UNSPOOL_DATA_DIR, or neither"
    ) as caught:
        find(wanted, tmp_path, None)
    assert str(caught.value).endswith("to use the cache" if address is None else "to use the cache or download")


def test_a_file_with_another_checksum_is_refused(tmp_path):
    path = put(tmp_path / "a.txt", b"some")
    with pytest.raises(DataError) as caught:
        read_verified(path, Address(["https://nowhere/"], f"sha256:{SHA256}"))
    for part in (str(path), "4 bytes", hashlib.sha256(b"some").hexdigest(), SHA256, "https://nowhere/a.txt"):
        assert part in str(caught.value)


def test_lines_are_stripped_and_counted(tmp_path):
    assert read_lines(put(tmp_path / "a.txt", "\ufeffa".encode())) == ["a"], "a byte order mark is none of the text"
    assert read_lines(put(tmp_path / "a.txt", "\tä b \r\n\nc\n".encode())) == ["ä b", "", "c", ""]
    with pytest.raises(DataError, match=r"a\.txt, line 1: byte 0 .* is 0xe4, which is not utf-8 .*\nFetch"):
        read_lines(put(tmp_path / "a.txt", "ä".encode("latin-1")))
    with pytest.raises(DataError, match=r"a\.txt, line 2: .*control characters"):
        read_lines(put(tmp_path / "a.txt", b"a\nb\0c\n"))
    with pytest.raises(DataError, match="cannot be read"):
        read_lines(tmp_path)
