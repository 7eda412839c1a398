"""Texts that came with data, on a terminal."""

from unspool._printable import printable


def test_control_characters_are_written_out():
    assert printable("\x1b[2J\x1b]0;owned\x07") == r"\x1b[2J\x1b]0;owned\x07"
    assert printable("a\nb\rc\x9b") == r"a\nb\rc\x9b"
    assert printable("\u202eabc\u2028\ud800") == r"\u202eabc\u2028\ud800"
    assert printable("a\nb\t\x1b", keep="\n\t") == "a\nb\t\\x1b"


def test_all_else_stays():
    for text in ("", "plain", "Größe 5\u202f% 日本語", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "a\\x1b"):
        assert printable(text) == text
