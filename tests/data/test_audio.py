from pathlib import Path

import numpy as np
import pytest
import torch

from unspool.data import DataError, frame_samples, log_mel
from unspool.data._audio import mel_filters

GOLDEN = Path(__file__).with_name("golden") / "log_mel.npz"  # made by generate/librosa_log_mel.py


@pytest.fixture(params=["speech", "odd"])
def golden(request):
    with np.load(GOLDEN, allow_pickle=False) as archive:
        arrays = {name: archive[f"{request.param}/{name}"] for name in ("samples", "settings", "filters", "log_mel")}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_filters_are_librosas(golden):
    rate, window, _, bands = golden["settings"].tolist()
    torch.testing.assert_close(mel_filters(rate, window, bands), golden["filters"], rtol=0, atol=1e-12)


def test_features_are_librosas(golden):
    rate, window, hop, bands = golden["settings"].tolist()
    samples = golden["samples"].double() / 32768
    features = log_mel(samples, rate, window=window, hop=hop, bands=bands)
    torch.testing.assert_close(features, golden["log_mel"], rtol=0, atol=1e-9)
    assert len(features) == 1 + (len(samples) - window) // hop
    assert features[-1].tolist() == pytest.approx([np.log(1e-8)] * bands), "digital silence is the floor"
    single = log_mel(samples.float(), rate, window=window, hop=hop, bands=bands)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double().exp(), golden["log_mel"].exp(), rtol=1e-3, atol=1e-8)


def test_frames_overlap_and_leave_the_rest_out():
    frames = frame_samples(torch.arange(8.0), window=3, hop=2)
    assert frames.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert len(frame_samples(torch.arange(3.0), window=3, hop=2)) == 1


@pytest.mark.parametrize("function", [frame_samples, lambda samples, **named: log_mel(samples, 8000, bands=3, **named)])
def test_recordings_and_frames_that_do_not_fit_are_refused(function):
    with pytest.raises(DataError, match=r"shape \(99,\); expected \(N,\) with N at least 100"):
        function(torch.zeros(99), window=100, hop=50)
    with pytest.raises(DataError, match=r"shape \(1, 200\)"):
        function(torch.zeros(1, 200), window=100, hop=50)
    with pytest.raises(DataError, match="received window=100 and hop=0"):
        function(torch.zeros(200), window=100, hop=0)


def test_bands_without_frequencies_are_refused():
    with pytest.raises(DataError, match="received bands=90: 3 of them hold none of the 101 frequencies"):
        mel_filters(8000, 200, 90)
    with pytest.raises(DataError, match="bands=0"):
        mel_filters(8000, 200, 0)
