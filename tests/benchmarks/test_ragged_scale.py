import json

import torch

from benchmarks import ragged_scale


def test_all_contenders_compute_the_same():
    batch = ragged_scale.example(3, 5)
    values = [
        sum(g.double().abs().sum() for g in ragged_scale.runner(name, batch, train=True)())
        for name in ragged_scale.LARGEST
    ]
    assert all(torch.isclose(value, values[0]) for value in values)


def test_a_report_is_written(tmp_path, capsys):
    ragged_scale.main(["--most", "100", "--rounds", "1", "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [case["contender"] for case in found["results"]] == list(ragged_scale.LARGEST)
    assert all(case[mode]["seconds"] > 0 for case in found["results"] for mode in ("forward", "train"))
    assert capsys.readouterr().out.count("\n") == 2 + len(ragged_scale.LARGEST)
