"""Pack the two .ts files of the Japanese Vowels data set into the archive that the package ships.

    python scripts/pack_japanese_vowels.py SOURCE_DIR

SOURCE_DIR holds JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts.
"""

import sys
from pathlib import Path

import numpy as np

from unspool.data import read_ts
from unspool.data.datasets.japanese_vowels import SHIPPED


def pack(source: Path, target: Path) -> None:
    """Write `target` from the files in `source`; the same input gives the same bytes."""
    arrays = {}
    for split in ("train", "test"):
        sequences, labels = read_ts(source / f"JapaneseVowels_{split.upper()}.ts")
        if labels is None:
            raise SystemExit(f"{source}: the series have no class labels")
        arrays[f"{split}_values"] = np.concatenate(sequences).astype(np.float32)
        arrays[f"{split}_lengths"] = np.array([len(sequence) for sequence in sequences], np.uint8)
        arrays[f"{split}_labels"] = np.array([int(label) - 1 for label in labels], np.uint8)
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    pack(Path(sys.argv[1]), SHIPPED)
    print(f"wrote {SHIPPED} ({SHIPPED.stat().st_size:,} bytes)")
