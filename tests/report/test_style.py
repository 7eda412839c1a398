import itertools

import pytest

from unspool.report import _style
from unspool.report._style import SYMBOLS, contender_styles

HUES = {
    name: value
    for name, value in vars(_style).items()
    if name.isupper() and name[0] != "_" and isinstance(value, tuple)
}
HUES.pop("SYMBOLS")


def luminance(colour):
    """Relative luminance by WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_wcags():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("hue", HUES)
@pytest.mark.parametrize("paper", ["#ffffff", "#171b21"])
def test_every_colour_stands_out_from_the_page(hue, paper):
    assert all(contrast(shade, paper) >= 3 for shade in HUES[hue])


def test_all_colours_differ():
    shades = list(itertools.chain.from_iterable(HUES.values()))
    assert len(shades) == len(set(shades)) == 21


def test_a_contender_has_its_librarys_hue_and_a_shade_and_symbol_of_its_own():
    rows = [("a", "torch", "dynamic"), ("b", "torch", "static"), ("c", "JAX", "static"), ("d", "other", "dynamic")]
    styles = contender_styles([*rows, ("a", "jax", "static")])
    assert [styles[name].colour for name in "abcd"] == [
        _style.VERMILION[0], _style.VERMILION[1], _style.GREEN[0], _style.VIOLET[0],
    ]  # fmt: skip
    assert [styles[name].dash for name in "abcd"] == ["solid", "dash", "dash", "solid"]
    assert [styles[name].symbol for name in "abcd"] == list(SYMBOLS[:4])


def test_more_contenders_than_shades_and_symbols():
    styles = contender_styles([(f"{number}", f"library {number % 5}", "static") for number in range(40)])
    assert len(styles) == 40
