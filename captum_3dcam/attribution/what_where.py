"""What x where, this package's own map."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import Tensor

from captum_3dcam import functional
from captum_3dcam._capture.recording import Recording
from captum_3dcam._layerwise_cam import Geometry, LayerSpec, LayerwiseCAM
from captum_3dcam._passes import Factors


class LayerwiseWhatWhereCAM(LayerwiseCAM):
    """What x where: this package's own map, which is neither 3DCAM nor from its paper.

    Per layer, R = G ⊙ (A − Ā) is the first-order effect on the score of setting a position to the
    layer's mean over positions. Over K layers,

        what = 1/K Σ_k norm(↑ pool Σ_c R_c),  where = (Π_k norm(↑ mean_3 Σ_c R_c²))^(1/K),

    with every layer's net effect pooled to the coarsest grid of them all, and the map is what ·
    where, in [0, 1]. Any number of spatial axes; one backward pass; no parameters. The fused map
    is not a function of the layer maps that ``per_layer=True`` returns, so there is no ``fusion``.

    A layer with a single position equals its own mean, and contributes nothing.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    >>> clip = torch.rand(2, 3, 4, 8, 8)
    >>> _ = model(clip)
    >>> LayerwiseWhatWhereCAM(model, ["0", "1"]).attribute(clip).shape
    torch.Size([2, 1, 4, 8, 8])
    """

    rule = staticmethod(functional.effect)

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layers: LayerSpec | Sequence[LayerSpec] | Literal["auto"],
        device_ids: list[int] | None = None,
        *,
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """As :class:`LayerwiseGlobalLocalCAM`, without ``fusion``."""
        super().__init__(
            forward_func,
            layers,
            device_ids,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
            output=output,
            input_layout=input_layout,
        )

    def _fused(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        yield self._joined(self._effects(factors, recording), geometry)

    def _effects(self, factors: Factors, recording: Recording) -> list[functional.Effect]:
        """Of each layer, on the device of the first input."""
        device = recording.inputs[0].device
        for calls, of_layer in zip(recording.layers, factors, strict=True):
            if len(of_layer) > 1:
                raise ValueError(
                    f"LayerwiseWhatWhereCAM joins layers that ran once; Layer {calls.layer.name!r} "
                    f"is explained in {len(of_layer)} calls. Choose calls='stack', 'last' or one."
                )
        return [
            functional.Effect(*(part.to(device) for part in call.factors)) for (call,) in factors
        ]

    def _joined(self, effects: Sequence[functional.Effect], geometry: Geometry) -> Tensor:
        return functional.what_where(
            effects, geometry.size, self.interpolate_mode, self.align_corners
        )
