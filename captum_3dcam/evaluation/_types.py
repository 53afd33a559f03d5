"""The types that the modules of this package share."""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]


class Attribution(Protocol):
    """The classes of :mod:`captum_3dcam.attribution`, and what has a method like theirs."""

    def attribute(self, inputs: Tensor, target: Any = None) -> Any:
        """Inputs (1, C, *S) -> a map (1, 1, *S)."""
