"""How attribution maps are computed and compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from captum_3dcam._validation import describe
from captum_3dcam.sanity.similarity import SIMILARITIES, Metric


@dataclass(frozen=True)
class MapComparison:
    """How attribution maps are computed and compared.

    Args:
        metrics: functions of two maps (N, ...) that return one value per sample, (N,), by name.
        additional_forward_args: arguments of the model after the inputs, as in Captum.
        attribute_kwargs: further arguments of the attribution, e.g. ``{"n_steps": 20}``.
        seed: of all random numbers. Every map is computed with the same ones.

    >>> import torch
    >>> from captum_3dcam.sanity import rank_correlation
    >>> comparison = MapComparison({"rank": rank_correlation}, attribute_kwargs={"n_steps": 20})
    >>> comparison.compare(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]]))
    {'rank': tensor([-1.], dtype=torch.float64)}
    """

    metrics: Mapping[str, Metric] = field(default_factory=lambda: SIMILARITIES)
    additional_forward_args: Any = None
    attribute_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0

    def compare(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        """Each metric of two maps (N, ...): a tensor (N,) by name."""
        similarities = {name: metric(first, second) for name, metric in self.metrics.items()}
        for name, values in similarities.items():
            if not isinstance(values, Tensor) or values.shape != first.shape[:1]:
                raise ValueError(
                    f"A metric of two maps (N, ...) must return a tensor (N,), here "
                    f"({len(first)},); {name!r} returned {describe(values)}."
                )
        return similarities
