"""FullGrad: the input's gradient and those of all biases, in one map."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from captum_3dcam import functional
from captum_3dcam._capture.layer_calls import LayerCalls
from captum_3dcam._capture.recording import Recording
from captum_3dcam._capture.reduction import LayerFactors, Reduction
from captum_3dcam._inputs import reference_input
from captum_3dcam._layerwise_cam import Geometry, LayerSpec, LayerwiseCAM, Request
from captum_3dcam._passes import Factors
from captum_3dcam.layers import Layer, resolve_layers


class _Start(nn.Module):
    """Stands for the input among the layers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class FullGradCAM(LayerwiseCAM):
    """FullGrad (Srinivas, Fleuret, 2019, arXiv 1905.00780): norm(Σ_k ↑ Σ_c ψ(|b_c G_c|)).

    The sum runs over the channels of the input, for which b is the input itself, and of every
    convolution and batch normalisation (in eval mode) that has a bias; ψ scales a channel by its
    own minimum and maximum to [0, 1]. In [0, 1]; any number of spatial axes.

    ``layers`` are the modules whose biases count, by default all of the model. Biases without
    spatial axes, and the implicit ones of other normalisations, are left out.

    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> FullGradCAM(model).attribute(torch.rand(2, 1, 8, 8, 8), target=2).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    def __init__(
        self,
        forward_func: nn.Module,
        layers: LayerSpec | Sequence[LayerSpec] | None = None,
        device_ids: list[int] | None = None,
        *,
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """As :class:`LayerwiseGradCAM`, without ``fusion``.

        Raises TypeError for a model that is no module, ValueError for layers without a bias.
        """
        if not isinstance(forward_func, nn.Module):
            raise TypeError(
                "FullGradCAM reads the biases of a torch.nn.Module; received "
                f"{type(forward_func).__name__}. Pass the model; output= chooses its scores."
            )
        self.model, self._start = forward_func, _Start().eval()
        biased = _biased_layers(forward_func) if layers is None else layers
        chosen = resolve_layers(biased, forward_func)
        for layer in chosen:
            _check_bias(layer)
        first = Layer(self._start, layout=input_layout, name="the input")
        super().__init__(
            self._from_start,
            [first, *chosen],
            device_ids,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
            output=output,
            input_layout=input_layout,
        )

    def _from_start(self, *inputs: Any) -> Any:
        first, *others = inputs
        if isinstance(first, list):
            largest = reference_input(first)
            first = [self._start(x) if x is largest else x for x in first]
        else:
            first = self._start(first)
        return self.model(first, *others)

    @property
    def reduction(self) -> Reduction:
        return Reduction(
            of_activation=lambda activation: (functional.channel_sum(activation),),
            of_gradient=lambda gradient: (gradient,),
            join=lambda activation, gradient: LayerFactors(gradient, {}),
        )

    def _refined(self, factors: Factors, request: Request, position: int) -> Factors:
        if request.options.attribute_to_layer_input:
            raise ValueError(
                "FullGrad needs the gradients of the layers' outputs: leave "
                "attribute_to_layer_input out."
            )
        of_input = self._arranged_input(request)
        return [
            [
                LayerFactors((_bias_map(self._bias(calls, of_input), call.factors[0]),), {})
                for call in of_layer
            ]
            for calls, of_layer in zip(request.recording.layers, factors, strict=True)
        ]

    def _arranged_input(self, request: Request) -> Tensor:
        calls = request.recording.layers[0]
        batch_size, size = calls.shapes[0][0], calls.shapes[0][2:]
        arrange = calls.layer.arrangement(batch_size, len(size))
        x: Tensor = arrange(reference_input(request.inputs))
        return x.detach()

    def _bias(self, calls: LayerCalls, of_input: Tensor) -> Tensor:
        module = calls.layer.module
        if module is self._start:
            return of_input
        assert isinstance(module, nn.Module)
        bias = _bias_of(module)
        return bias.reshape(1, -1, *[1] * (of_input.ndim - 2))

    def _fused(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        device = recording.inputs[0].device
        options = (geometry.size, self.interpolate_mode, self.align_corners)
        maps = (
            functional.upsample(call.factors[0], *options).to(device)
            for of_layer in factors
            for call in of_layer
        )
        yield functional.normalize(sum(maps, start=torch.zeros((), device=device)))


def _biased_layers(model: nn.Module) -> list[Layer]:
    """The convolutions and batch normalisations with a bias, each once."""
    layers = [
        Layer(module, calls="sum", name=name)
        for name, module in model.named_modules()
        if isinstance(module, (_ConvNd, _NormBase)) and _has_bias(module)
    ]
    if not layers:
        raise ValueError(
            "The model has no convolution or batch normalisation with a bias, which FullGrad "
            "decomposes the score by. Choose another method, as LayerwiseGradCAM."
        )
    return layers


def _check_bias(layer: Layer) -> None:
    if not isinstance(layer.module, nn.Module) or not _has_bias(layer.module):
        raise ValueError(
            f"Layer {layer.name!r} has no bias that is a vector of its channels. FullGradCAM takes "
            "convolutions and batch normalisations with a bias; leave layers out for all of them."
        )


def _has_bias(module: nn.Module) -> bool:
    bias = getattr(module, "bias", None)
    return isinstance(bias, Tensor) and bias.ndim == 1


def _bias_of(module: Any) -> Tensor:
    """The bias (C,); of batch normalisation in eval mode β − γ μ / σ."""
    bias: Tensor = module.bias.detach()
    if not isinstance(module, _NormBase):
        return bias
    if module.running_mean is None or module.running_var is None or module.training:
        raise ValueError(
            "FullGrad takes the bias of batch normalisation from its running statistics, which "
            "it uses in eval mode. Call model.eval()."
        )
    scale: Tensor = (module.running_var + module.eps).rsqrt() * module.weight.detach()
    return bias - module.running_mean * scale


def _bias_map(bias: Tensor, gradient: Tensor) -> Tensor:
    """Σ_c ψ(|b_c G_c|): (N, C, *S) -> (N, 1, *S)."""
    wide = torch.promote_types(gradient.dtype, torch.float32)
    effects = (bias.to(gradient.device, wide) * gradient.to(wide)).abs()
    return functional.channel_sum(functional.scale_channels(effects))
