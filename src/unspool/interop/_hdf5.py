"""Read arrays of an untrusted HDF5 file: only those stored in it, and no larger than it can hold."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from unspool._reading import check_unpacked


class Arrays:
    """Read data sets of an open file.

    An HDF5 file may refer to another file (external links, external storage, virtual data sets), which would put the
    content of any file of this machine among the weights. Such references are not followed.

    Parameters
    ----------
    h5py : module
    file : h5py.File
    size : int
        Bytes of the file; everything read from it together is within the bound of `unspool._reading`.
    """

    def __init__(self, h5py: ModuleType, file: Any, size: int) -> None:
        self.h5py: Any = h5py
        self.file = file
        self.size = size
        self.read = 0

    def find(self, path: str) -> Any | None:
        """Return the item at a path, or None if there is none.

        Raises
        ------
        ValueError
            If a part of the path is a link to another place.
        """
        item, walked = self.file, ""
        for part in path.split("/"):
            walked += f"/{part}"
            name = part.encode()
            # Not `part in item`, which opens the other file to look.
            if not isinstance(item, self.h5py.Group) or not item.id.links.exists(name):
                return None
            if item.id.links.get_info(name).type != self.h5py.h5l.TYPE_HARD:
                raise ValueError(
                    f"{walked!r} is a link to {item.id.links.get_val(name)!r}; expected the item itself, as Keras "
                    "writes it. Do not trust this file"
                )
            item = item[part]
        return item

    def names(self, path: str, most: int) -> list[str]:
        """Return the names in a group of numbered data sets, in the order of their numbers; none if it is absent.

        Raises
        ------
        ValueError
            If there are more than `most`, or a name is not a number.
        """
        group = self.find(path)
        if group is None:
            return []
        if len(group) > most:
            raise ValueError(f"there are {len(group):,} arrays at {path!r}; expected {most} at most")
        return sorted(group, key=int)

    def array(self, path: str) -> np.ndarray:
        """Return a data set.

        Raises
        ------
        ValueError
            If there is none, it is stored in another file, or it is larger than the file can hold.
        TypeError
            If it does not hold numbers.
        """
        stored = self.find(path)
        if not isinstance(stored, self.h5py.Dataset):
            raise ValueError(f"there is no array at {path!r}")
        dataset: Any = stored
        if dataset.external or dataset.is_virtual:
            where = dataset.external[0][0] if dataset.external else dataset.virtual_sources()[0].file_name
            raise ValueError(
                f"the array at {path!r} lies in another file ({where!r}); expected one in this file, as Keras writes "
                "it. Do not trust this file"
            )
        if dataset.dtype.kind not in "biufV":
            raise TypeError(f"{path} is an array of {dataset.dtype}; expected floating-point numbers.")
        # A chunk is unpacked whole, also where the array is smaller.
        self.read += max(dataset.size, math.prod(dataset.chunks or ())) * dataset.dtype.itemsize
        check_unpacked(self.read, self.size)
        return np.asarray(dataset)
