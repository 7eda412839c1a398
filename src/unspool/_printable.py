"""Texts that came with data, as a terminal may show them."""

import unicodedata

_NOT_SHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
# They join the parts of one character, as in emoji, and change nothing else.
_JOINERS = "\u200c\u200d"


def printable(text: str, keep: str = "") -> str:
    """Return a text with its control characters written out, as Python does: ``\\x1b`` for an escape.

    A terminal obeys control characters: they clear it, rename it, turn the order of the letters around, or write over
    what stands above.

    Parameters
    ----------
    text : str
    keep : str
        Control characters to leave as they are.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _NOT_SHOWN and character not in _JOINERS and character not in keep
        else character
        for character in text
    )
