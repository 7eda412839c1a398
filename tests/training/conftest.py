import pytest

from unspool.training import RunResult, fit, vowels_recipe


def tiny(**changes):
    """A recipe of 2 epochs of 6 steps, with dropout, noise, a schedule and checkpoints every 2 steps."""
    options = {
        "model": "gru",
        "hidden_size": 8,
        "epochs": 2,
        "batch_size": 8,
        "limit_train": 45,
        "checkpoint_every": 2,
        "log_every": 1,
        "seed": 3,
        "tested": "best",
    }
    return vowels_recipe(**{**options, **changes})


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> RunResult:
    """The result of an undisturbed run of the tiny recipe."""
    return fit(tiny(), tmp_path_factory.mktemp("finished"), accelerator="cpu", show=False)
