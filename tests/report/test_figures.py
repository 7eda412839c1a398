import math

import pytest

from unspool.report._figures import new_figure, significant, wants_logarithm


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.0123456, "0.0123"), (1.5, "1.50"), (31.25, "31.2"), (1055.6, "1,056"), (-2.0, "-2.00"),
     (math.nan, "nan"), (123456, "123,456"), (9.999, "10.0")],
)  # fmt: skip
def test_significant_digits(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(
    ("values", "answer"),
    [([], False), ([1, 29], False), ([1, 30], True), ([0, 100], False), ([-1, 100], False),
     ([1, math.nan, math.inf, 31], True)],
)  # fmt: skip
def test_far_apart_values_are_logarithmic(values, answer):
    assert wants_logarithm(values) is answer


def test_logarithmic_axes_have_few_labels():
    assert new_figure(x_title="x", y_title="y").layout.yaxis.type is None
    assert new_figure(x_title="x", y_title="y", log_y=[1, 40]).layout.yaxis.dtick == "D2"
    assert new_figure(x_title="x", y_title="y", log_y=[1, 4000]).layout.yaxis.dtick == 1
