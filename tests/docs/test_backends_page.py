"""The list of what is read natively names rules, each met by a spelling that is tested."""

from __future__ import annotations

import re

from tests.docs.pages import PAGES
from tests.program.rules.spellings import EXPRESSIONS
from unspool.program.rules import RULES

TABLE = PAGES["docs/backends.md"].split("## What is read natively")[1].split("| cells |")[0]
NAMES = {
    word
    for text in re.findall(r"`([^`]+)`", TABLE.split("| --- | --- |")[1])
    for word in re.findall(r"\b[a-z]\w+\b", text)
}
OF_SEVERAL = {"logical_": ("logical_and", "logical_or", "logical_xor", "logical_not")}


def test_the_table_is_found():
    assert {"add", "floor", "einsum", "mT", "batch_norm", "diagonal"} <= NAMES


def test_what_the_page_lists_is_a_rule_with_a_spelling():
    names = {each for name in NAMES for each in OF_SEVERAL.get(name, (name,))}
    assert not names - RULES.keys()
    words = {each: re.compile(rf"\b{each}\b|\b{each.replace('_', '')}\b", re.IGNORECASE) for each in names}
    assert not [each for each, word in words.items() if not any(map(word.search, EXPRESSIONS))]
