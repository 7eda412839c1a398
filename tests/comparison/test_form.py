"""The form of a comparison's JSON is that of what is written."""

import copy
import json

import pytest

from tests.comparison.test_results import COMPARISON
from unspool.comparison import faults_of_form

WRITTEN = json.loads(COMPARISON.to_json())
PARTS = {
    "": lambda values: values,
    "settings.": lambda values: values["settings"],
    "contenders[2].": lambda values: values["contenders"][2],
    "scaling[1].": lambda values: values["scaling"][1],
    "longer[0].": lambda values: values["longer"][0],
    "batching.": lambda values: values["batching"],
    "batching.modes[0].": lambda values: values["batching"]["modes"][0],
}
FIELDS = [(where, field) for where, part in PARTS.items() for field in part(WRITTEN) if field != "format"]


def test_what_is_written_has_the_form():
    assert list(faults_of_form(WRITTEN)) == []
    assert list(faults_of_form({**WRITTEN, "batching": None, "longer": [], "more": 1})) == []


@pytest.mark.parametrize(("where", "field"), FIELDS, ids=lambda value: value or "top")
def test_every_field_is_needed_and_has_a_type(where, field):
    values = copy.deepcopy(WRITTEN)
    part = PARTS[where](values)
    part[field] = {1}
    (fault,) = faults_of_form(values)
    assert f"received a comparison whose {where}{field} is {{1}}; expected " in fault
    del part[field]
    (fault,) = faults_of_form(values)
    assert f"received a comparison whose {where}{field} is absent; expected " in fault


def test_every_fault_is_told():
    values = copy.deepcopy(WRITTEN)
    values["scaling"][0]["steps"] = values["contenders"][1] = None
    assert [fault.partition(";")[0] for fault in faults_of_form(values)] == [
        "received a comparison whose contenders[1] is None",
        "received a comparison whose scaling[0].steps is None",
    ]
