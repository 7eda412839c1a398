import numpy as np
import pytest

from unspool.data import DataError, Sequences, TimeStep, check_regular, fill_gaps


def at(*times):
    return np.array(times, "M8[us]")


@pytest.mark.parametrize(
    ("times", "said", "following"),
    [
        (np.array([1.0, 1.5, 2.5]), "0.5", [3, 3.5]),
        (at("2024-02-27", "2024-02-28", "2024-03-01"), "1 day, 0:00:00", at("2024-03-02", "2024-03-03")),
        (at("2023-11-01", "2023-12-01", "2024-02-01"), "1 month", at("2024-03-01", "2024-04-01")),
        (at("2023-11-15T12", "2024-02-15T12"), "3 months", at("2024-05-15T12", "2024-08-15T12")),
        (at("2023-11-30", "2023-12-31", "2024-01-31"), "1 month", at("2024-02-29", "2024-03-31")),
        (at("2022-06-01", "2023-06-01"), "12 months", at("2024-06-01", "2025-06-01")),
        (at("2024-01-01T00:00", "2024-01-01T00:10"), "0:10:00", at("2024-01-01T00:20", "2024-01-01T00:30")),
    ],
)
def test_the_step_and_the_times_after(times, said, following):
    step = TimeStep.of([times])
    assert str(step) == said
    np.testing.assert_array_equal(step.after(times[-1], 2), following)


def make(times, **named):
    return Sequences([np.arange(len(times), dtype=float)[:, None]], ("a",), ("x",), times=[times], **named)


def test_gaps_are_found_and_filled():
    with_gap = make(at("2023-11-01", "2023-12-01", "2024-03-01"), targets=[np.array([0, 1, 0])], class_names=("n", "y"))
    with pytest.raises(DataError, match=r"sequence 'x': nothing between the times 2023-12-01.* and 2024-03-01"):
        check_regular(with_gap)
    filled = fill_gaps(with_gap)
    assert filled.times is not None
    assert isinstance(filled.targets, list)
    assert [str(time)[:7] for time in filled.times[0]] == ["2023-11", "2023-12", "2024-01", "2024-02", "2024-03"]
    np.testing.assert_array_equal(filled.values[0][:, 0], [0, 1, np.nan, np.nan, 2])
    assert filled.targets[0].tolist() == [0, 1, -100, -100, 0]
    assert fill_gaps(filled) is filled
    assert str(check_regular(filled)) == "1 month"


def test_times_at_no_step_are_refused():
    for times in (np.array([0.0, 1, 2, 2.5]), at("2024-01-01", "2024-01-02", "2024-01-03", "2024-01-03T05")):
        with pytest.raises(DataError, match=r"x: the time .* is not a whole number of steps of 1"):
            fill_gaps(make(times))
    with pytest.raises(DataError, match="no sequence has two steps"):
        TimeStep.of([np.zeros(1)])
    without = Sequences([np.zeros((1, 1))], ("a",), ("x",))
    for call in (fill_gaps, check_regular):
        with pytest.raises(DataError, match="the sequences have no times"):
            call(without)
