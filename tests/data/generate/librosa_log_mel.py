"""Write ../golden/log_mel.npz: mel features of two signals, computed by librosa.

The arrays of a case, without pickles: `<case>/samples` int16, `<case>/settings` int64 (rate, window, hop, bands),
`<case>/filters` (window // 2 + 1, bands) and `<case>/log_mel` (T, bands), both float64.
"""

from pathlib import Path

import librosa  # pyright: ignore[reportMissingImports]
import numpy as np

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "log_mel.npz"
CASES = {"speech": (8000, 200, 80, 40), "odd": (11025, 255, 100, 23)}


def signal(rate: int, generator: np.random.Generator) -> np.ndarray:
    """Return a rising tone with an overtone, noise in its second half, and digital silence at the end."""
    time = np.arange(rate // 5) / rate
    tone = 0.5 * np.sin(2 * np.pi * (200 + 3000 * time) * time) + 0.1 * np.sin(2 * np.pi * 1700 * time)
    noise = generator.normal(size=len(time)) * 0.05 * (time > 0.1)
    return np.append(np.round((tone + noise) * 32767), np.zeros(rate // 20)).astype(np.int16)


def main() -> None:
    """Compute every case and write the file."""
    generator = np.random.default_rng(0)
    arrays = {}
    for case, (rate, window, hop, bands) in CASES.items():
        samples = signal(rate, generator)
        power = librosa.feature.melspectrogram(
            y=samples.astype(np.float64) / 32768,
            sr=rate,
            n_fft=window,
            hop_length=hop,
            window="hann",
            center=False,
            power=2.0,
            n_mels=bands,
            fmin=0.0,
            htk=True,
            norm=None,
            dtype=np.float64,
        )
        filters = librosa.filters.mel(sr=rate, n_fft=window, n_mels=bands, htk=True, norm=None, dtype=np.float64)
        arrays[f"{case}/samples"] = samples
        arrays[f"{case}/settings"] = np.array([rate, window, hop, bands])
        arrays[f"{case}/filters"] = filters.T
        arrays[f"{case}/log_mel"] = np.log(np.maximum(power, 1e-8)).T
    GOLDEN.parent.mkdir(exist_ok=True)
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main()
