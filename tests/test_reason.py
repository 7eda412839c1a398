"""A reason is text that knows its remedy, wherever it is carried."""

from __future__ import annotations

import copy
import pickle

from unspool._reason import Reason

REASON = Reason("draws (cell.py:7 in forward)", "mend {code}", "cell.py:7 in forward", of_device=True)


def knows(reason: Reason) -> tuple[str, str, bool]:
    return reason.remedy, reason.where, reason.of_device


def test_it_is_its_text():
    assert REASON == "draws (cell.py:7 in forward)"
    assert not Reason()
    assert Reason.ending("it draws", "mend it") == "it draws; mend it"


def test_what_is_carried_knows_what_it_knew():
    found = [Reason.of(REASON), REASON.about("torch.rand"), copy.deepcopy(REASON), pickle.loads(pickle.dumps(REASON))]
    assert {knows(reason) for reason in found} == {("mend {code}", "cell.py:7", True)}
    assert found[1] == "torch.rand draws (cell.py:7 in forward)"
    assert REASON.about("torch.rand", "other.py:3 in f") == "torch.rand (other.py:3 in f) draws (cell.py:7 in forward)"
    assert REASON.about("torch.rand", "other.py:3 in f").where == "other.py:3"


def test_the_change_names_the_line_and_the_part():
    assert REASON.change("model.rnn") == "cell.py:7: mend model.rnn"
    assert Reason("slow", "mend {code}").change("model") == "mend model"
    assert Reason("slow", where="cell.py:7").change("model") == ""
