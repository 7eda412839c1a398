"""Sound as sequences: frames of samples, and their power in mel bands."""

import math
from functools import cache

import torch
from torch import Tensor

from unspool.data._errors import DataError

LOG_FLOOR = 1e-8  # about the power that rounding to 16 bits leaves in a band


def frame_samples(samples: Tensor, *, window: int, hop: int) -> Tensor:
    """Cut a recording into frames that may overlap.

    Parameters
    ----------
    samples : Tensor of shape (N,)
        The recording.
    window : int
        Samples per frame.
    hop : int
        Samples from the start of one frame to the start of the next.

    Returns
    -------
    Tensor of shape (T, window)
        ``T = 1 + (N - window) // hop`` frames; samples after the last whole frame are dropped.

    Raises
    ------
    DataError
        If the recording is shorter than a frame, or a number is not positive.
    """
    if window < 1 or hop < 1:
        raise DataError(f"received window={window} and hop={hop} samples; expected at least 1 of each")
    if samples.ndim != 1 or len(samples) < window:
        raise DataError(f"received samples of shape {tuple(samples.shape)}; expected (N,) with N at least {window}")
    return samples.unfold(0, window, hop)


@cache
def mel_filters(rate: int, window: int, bands: int) -> Tensor:
    """Return triangular filters whose peaks are evenly spaced on the mel scale.

    The scale is HTK's, mel(f) = 2595 log10(1 + f / 700). Peaks are 1 (no normalisation by area), sides are linear in
    Hz, and the bands cover 0 to rate / 2.

    Parameters
    ----------
    rate : int
        Samples per second.
    window : int
        Samples of a Fourier transform.
    bands : int
        Number of filters M.

    Returns
    -------
    Tensor of shape (window // 2 + 1, M), float64
        The weight of each frequency in each band. It is cached for equal arguments: do not write into it.

    Raises
    ------
    DataError
        If a number is not positive, or bands are so narrow that no frequency falls into one of them.
    """
    if rate < 1 or window < 1 or bands < 1:
        raise DataError(f"received rate={rate}, window={window}, bands={bands}; expected at least 1 of each")
    highest = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    frequencies = (torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window)[:, None]
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - low) / (peak - low), (high - frequencies) / (high - peak)
    filters = torch.minimum(rising, falling).clamp(min=0)
    empty = int((filters.sum(0) == 0).sum())
    if empty:
        raise DataError(
            f"received bands={bands}: {empty} of them hold none of the {window // 2 + 1} frequencies of a window of "
            f"{window} samples; use fewer bands or a longer window"
        )
    return filters


def log_mel(samples: Tensor, rate: int, *, window: int, hop: int, bands: int = 40) -> Tensor:
    """Return the logarithm of a recording's power in mel bands.

    Frames are weighted with a Hann window, without padding before the first or after the last frame. `mel_filters` is
    applied to their power spectrum, and the natural logarithm is taken of at least 1e-8.

    Parameters
    ----------
    samples : Tensor of shape (N,)
        The recording, from -1 to 1.
    rate : int
        Samples per second.
    window, hop : int
        Samples of a frame, and from one frame's start to the next one's.
    bands : int
        Number of bands M.

    Returns
    -------
    Tensor of shape (T, M)
        ``T = 1 + (N - window) // hop`` steps.

    Raises
    ------
    DataError
        As `frame_samples` and `mel_filters` do.
    """
    frame_samples(samples, window=window, hop=hop)  # for its errors
    weights = torch.hann_window(window, dtype=samples.dtype)
    spectrum = torch.stft(samples, window, hop, window=weights, center=False, return_complex=True)
    power = spectrum.abs().square().T
    return (power @ mel_filters(rate, window, bands).to(power.dtype)).clamp(min=LOG_FLOOR).log()
