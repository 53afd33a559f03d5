"""Which volumes of a file are read, and voxels that are complex, NaN or infinite."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Index = int | Literal["all"] | None
"""Of a volume on the last axis of a file, or all of them as channels."""


class SeveralVolumesError(ValueError):
    """A file, or a DICOM series, holds several volumes, and none is chosen."""

    def __init__(self, count: int, message: str | None = None) -> None:
        super().__init__(
            message
            or f"it has {count} volumes on its last axis. To read one of them, such as a time of "
            f"an fMRI or a direction of a DWI, pass index= (--index), 0 to {count - 1}. If they "
            "are the channels of one input, pass index='all' (--index all)."
        )
        self.count = count


class OneVolumeError(ValueError):
    """A file holds one volume, and another is chosen."""


def choose_volumes(count: int, index: Index, are_channels: bool = False) -> range:
    """The volumes to read out of ``count`` on the last axis of a file.

    One volume, and the components of vectors, need no choice. Raises SeveralVolumesError without
    one, and ValueError for a choice that is impossible, OneVolumeError if there is one volume.

    >>> choose_volumes(20, 3), choose_volumes(4, "all")
    (range(3, 4), range(0, 4))
    """
    if isinstance(index, int | np.integer):
        if count == 1 and index != 0:
            raise OneVolumeError(f"index={index}: it has one volume, 0.")
        if not 0 <= index < count:
            raise ValueError(f"index={index}: it has {count} volumes, 0 to {count - 1}.")
        return range(int(index), int(index) + 1)
    if index not in (None, "all"):
        raise ValueError(f"index={index!r}: expected an integer, 'all' or None.")
    if count > 1 and index is None and not are_channels:
        raise SeveralVolumesError(count)
    return range(count)


def check_real(data: Tensor | ArrayLike) -> None:
    """Raise ValueError for complex values, of which float32 would keep the real part alone."""
    if data.is_complex() if isinstance(data, Tensor) else np.iscomplexobj(data):
        raise ValueError(
            "The values are complex; expected real numbers. Pass their magnitude, np.abs(data), or "
            "another part, such as data.real or np.angle(data)."
        )


def replace_non_finite(data: NDArray[np.float32], nan: float | None) -> None:
    """Replace NaN and infinite voxels in place; ValueError if there are some and ``nan`` is None.

    >>> replace_non_finite(np.float32([[[0, np.nan, np.inf, 1]]]), None)
    Traceback (most recent call last):
    ValueError: 2 of its 4 voxels are NaN or infinite, the first at (d, h, w) = (0, 0, 1), all in \
[0:1, 0:1, 1:3]. They are often outside of the field of view. To replace them by a value, such \
as 0, or -1024 in CT, pass nan= (--nan).
    """
    with np.errstate(all="ignore"):
        if np.isfinite(data.sum(dtype=np.float64)):
            return
    wrong = ~np.isfinite(data)
    if nan is not None:
        data[wrong] = nan
        return
    count = np.count_nonzero(wrong)
    in_volume = wrong.reshape(-1, *wrong.shape[-3:]).any(axis=0)
    first = tuple(int(i) for i in np.unravel_index(in_volume.argmax(), in_volume.shape))
    box = ", ".join(f"{indices.min()}:{indices.max() + 1}" for indices in in_volume.nonzero())
    raise ValueError(
        f"{count:,} of its {data.size:,} voxels are NaN or infinite, the first at (d, h, w) = "
        f"{first}, all in [{box}]. They are often outside of the field of view. To replace them "
        "by a value, such as 0, or -1024 in CT, pass nan= (--nan)."
    )
