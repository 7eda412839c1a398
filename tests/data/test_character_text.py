import pytest

from unspool.data import DataError, read_character_text


def test_a_text_as_numbers(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffbé\r\n\U0001f600b".encode())
    text = read_character_text(tmp_path / "a.txt")
    assert text.characters == "\nbé\U0001f600"
    assert "".join(text.characters[token] for token in text.tokens) == "bé\n\U0001f600b"
    (tmp_path / "b.txt").write_bytes("é".encode("latin-1"))
    assert read_character_text(tmp_path / "b.txt", encoding="latin-1").characters == "é"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "no text"),
        (b"a\nb\0", "line 2: a null character"),
        (b"caf\xe9", "0xe9, which is not utf-8"),
        (b"\x1f\x8b\x08", "damaged or truncated gzip"),
    ],
)
def test_what_is_no_text_is_refused(content, message, tmp_path):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_character_text(tmp_path / "a.txt")
