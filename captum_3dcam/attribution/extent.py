"""The extent of what decides, for masks and boxes."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from captum_3dcam import functional
from captum_3dcam._capture.recording import Recording
from captum_3dcam._layerwise_cam import Geometry
from captum_3dcam._passes import Factors
from captum_3dcam.attribution.what_where import LayerwiseWhatWhereCAM


class ExtentCAM(LayerwiseWhatWhereCAM):
    """How far what decides for the class extends: what x where for masks and boxes.

    With R = G ⊙ (A − Ā) as in :class:`LayerwiseWhatWhereCAM` and n_k = ↑ pool Σ_c R_c,

        what = 1/K Σ_k (1 + n_k / max |n_k|) / 2,
        where = (Π_k norm(↑ mean_3 Σ_c relu(R_c)²))^(1/K),

    and the map is what · where, in [0, 1]. Without the ReLU of *what*, positions of the object
    whose net effect is negative by chance keep a rank; without the energy of R < 0, the rest of the
    layer does not count where the object covers much of it. It covers more of the object, and of
    the background: for the evidence itself take :class:`LayerwiseWhatWhereCAM`. Any number of
    spatial axes; one backward pass; no parameters, and no ``fusion``.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    >>> ExtentCAM(model, ["0", "1"]).attribute(torch.rand(2, 3, 4, 8, 8)).shape
    torch.Size([2, 1, 4, 8, 8])
    """

    rule = staticmethod(functional.effect_for)

    def _layer_maps(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        for effect in self._effects(factors, recording):
            yield self._joined([effect], geometry)

    def _joined(self, effects: Sequence[functional.Effect], geometry: Geometry) -> Tensor:
        return functional.extent(effects, geometry.size, self.interpolate_mode, self.align_corners)
