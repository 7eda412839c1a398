"""What the doctor's page says that it prints is what it prints, before and after the changes that it names."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from tests.docs.pages import PAGES, blocks
from unspool.cli import app

CODE = [block.code for block in blocks(PAGES["docs/doctor.md"]) if block.language == "python" and not block.hidden]
PRINTED = [block.code for block in blocks(PAGES["docs/doctor.md"]) if block.code.startswith("encoder:")]
MODEL, METHODS = (next(code for code in CODE if start in code) for start in ("class Tagger", "def row_inputs"))
LOOP = """\
        states, h = [], None
        for x in y.unbind(1):
            h = self.step(x, h)
            states.append(h)
        return self.top(torch.stack(states, 1), lengths=lengths)[0]
"""
CHANGES = {
    "nn.LSTM(64, 128, batch_first=True)": "us.accelerate(nn.LSTM(64, 128, batch_first=True))",
    "self.encoder(self.embed(tokens))": "self.encoder(self.embed(tokens), lengths=lengths)",
    LOOP: """\
        states, _ = us.dynamic_rnn(self.step, y, lengths)
        return self.top(states, lengths=lengths)[0]
""",
    MODEL[MODEL.index("    def forward(self, x, h)") : MODEL.index("class Tagger")]: "".join(
        f"    {line}".rstrip() + "\n" for line in METHODS.splitlines()
    ),
}


@pytest.mark.parametrize("changed", [False, True], ids=["as it is", "changed"])
def test_the_page_shows_what_is_printed(changed, tmp_path, monkeypatch):
    code = MODEL
    for before, after in CHANGES.items() if changed else ():
        assert code.count(before) == 1
        code = code.replace(before, after)
    (tmp_path / "tagger.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    result = CliRunner().invoke(app, ["doctor", "tagger.py:Tagger"])
    sys.modules.pop("tagger", None)
    assert result.stdout == PRINTED[changed]
