import json

import torch

from benchmarks import ragged_scale


def test_both_backends_compute_the_same():
    batch = ragged_scale.example(3, 5)
    native, reference = (ragged_scale.runner(name, batch, train=True)() for name in ragged_scale.LARGEST)
    for a, b in zip(native, reference, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_report_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ragged_scale, "LARGEST", {"native": 100})
    ragged_scale.main(["--most", "1000", "--rounds", "1", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [case["backend"] for case in found["results"]] == list(ragged_scale.LARGEST)
    assert all(case[mode]["seconds"] > 0 for case in found["results"] for mode in ("forward", "train"))
    assert capsys.readouterr().out.count("\n") == 2 + len(ragged_scale.LARGEST)
