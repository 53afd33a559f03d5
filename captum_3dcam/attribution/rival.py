"""What speaks against a class: the evidence for its rivals."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from captum_3dcam import functional
from captum_3dcam._layerwise_cam import LayerSpec
from captum_3dcam._targets import per_sample_targets, predicted_target, select_scores
from captum_3dcam.attribution.what_where import LayerwiseWhatWhereCAM


class RivalCAM(LayerwiseWhatWhereCAM):
    """Where, and when, the network saw what speaks against the target: evidence for its rivals.

    What x where (:class:`LayerwiseWhatWhereCAM`) of the negated contrast between the target's
    score and that of its rivals (:func:`captum_3dcam.functional.contrast`), by default

        log Σ_{k ≠ c} exp(y_k) − y_c,

    the log-odds of the other classes against c, whose map is that of −log p_c. With a ``rival`` r
    it is y_r − y_c: why not c, rather than r? Only what speaks for this score counts in *where*
    (:func:`captum_3dcam.functional.effect_for`), so that the class itself has less of the map. In
    [0, 1], by its own maximum: it shows where most speaks against the class, be it much or little.
    Any number of spatial axes; one backward pass. The paper's counterfactual is
    :class:`CounterfactualCAM`.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(864, 5))
    >>> volume = torch.rand(2, 1, 8, 8, 8)
    >>> RivalCAM(model, ["0", "1"], rival=3).attribute(volume, target=[0, 1]).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    rule = staticmethod(functional.effect_for)
    _evidence = "against"

    # Nine parameters: one more than the class that this one is a case of.
    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layers: LayerSpec | Sequence[LayerSpec] | Literal["auto"],
        device_ids: list[int] | None = None,
        *,
        rival: functional.Rival = None,
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """As :class:`LayerwiseWhatWhereCAM`, and the rival.

        Args:
            rival: the class to compare with, or one for each sample; None for all other classes.

        A target that is a function is one of the contrasts, which have the output's shape. A call
        raises ValueError for a class that is its own rival, IndexError for a rival out of range.
        """
        super().__init__(
            forward_func,
            layers,
            device_ids,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
            output=output,
            input_layout=input_layout,
        )
        self.rival = functional.check_rival(rival)

    def __repr__(self) -> str:
        text = super().__repr__()
        return text if self.rival is None else f"{text[:-1]}, rival={self.rival})"

    def _window_factors(self, probabilities: Tensor) -> Tensor:
        """Most speaks against the class where it is improbable."""
        return (1 - probabilities).clamp(min=0)[:, None]

    def _score(self, target: Any) -> Callable[[Tensor], Tensor]:
        def against(output: Tensor) -> Tensor:
            # By the scores themselves, because contrasts that are nearly equal may round otherwise.
            explicit = predicted_target(output) if target is None else target
            scores = select_scores(functional.contrast(output, self.rival), explicit)
            if self.rival is not None and not callable(explicit):
                _check_rivals_differ(self.rival, explicit, output)
            return -scores

        return against


def _check_rivals_differ(rivals: list[int], target: Any, output: Tensor) -> None:
    """ValueError for samples that are their own rival, whose contrast is always zero."""
    targets = per_sample_targets(target, len(output))
    classes = [each[0] if isinstance(each, tuple) else each for each in targets]
    is_same = torch.tensor(classes) % output.shape[1] == torch.tensor(rivals)
    if is_same.any():
        raise ValueError(
            f"rival={rivals} is the class that is explained, of sample(s) "
            f"{', '.join(map(str, is_same.nonzero().flatten().tolist()))}. Name another class, or "
            "leave rival out for all others."
        )
