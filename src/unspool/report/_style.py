"""Colours, symbols and dashes: one for each contender, the same in every figure of a page."""

from collections.abc import Iterable
from dataclasses import dataclass

# Three shades of each hue. Each stands out from white and from the dark page's ground by 3 : 1 at least, and the hues
# differ for readers who do not see red and green apart, in the order in which they are given out.
BLUE = ("#0084d0", "#006fb1", "#1498eb")
VERMILION = ("#d45801", "#b44900", "#ed6a20")
GREEN = ("#069065", "#047a54", "#10a674")
PURPLE = ("#c74fb2", "#b0389c", "#dd64c7")
AMBER = ("#a67600", "#8d6300", "#be8801")
VIOLET = ("#856ae6", "#7255cf", "#977efc")
GREY = ("#76808a", "#626b76", "#89939e")

_LIBRARIES = {"unspool": BLUE, "torch": VERMILION, "tensorflow": AMBER, "keras": PURPLE, "jax": GREEN}
_OTHERS = (VIOLET, GREY)
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "star", "pentagon", "cross", "hexagon",
    "triangle-left", "triangle-right", "hourglass", "bowtie", "hexagram", "star-square",
)  # fmt: skip
OVER_LIMIT_SYMBOL = "x-thin-open"


@dataclass(frozen=True)
class Style:
    """How a contender is drawn: its colour, its symbol, and whether it is a static one (dashed, hatched)."""

    colour: str
    symbol: str
    static: bool

    @property
    def dash(self) -> str:
        """Plotly's name of the kind of line."""
        return "dash" if self.static else "solid"


def contender_styles(contenders: Iterable[tuple[str, str, str]]) -> dict[str, Style]:
    """Give every contender a style: a hue for its library, a shade and a symbol of its own.

    Parameters
    ----------
    contenders : iterable of (str, str, str)
        Name, library and kind ("static" or "dynamic") of each.

    Returns
    -------
    dict
        The styles by name.
    """
    hues = dict(_LIBRARIES)
    used: dict[str, int] = {}
    styles: dict[str, Style] = {}
    for name, library, kind in contenders:
        if name in styles:
            continue
        family = library.lower()
        if family not in hues:
            hues[family] = _OTHERS[(len(hues) - len(_LIBRARIES)) % len(_OTHERS)]
        shade = used.get(family, 0)
        used[family] = shade + 1
        symbol = SYMBOLS[len(styles) % len(SYMBOLS)]
        styles[name] = Style(hues[family][shade % len(hues[family])], symbol, kind == "static")
    return styles
