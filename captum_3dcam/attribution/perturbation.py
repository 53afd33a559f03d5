"""Score-CAM and Ablation-CAM: channels weighted by what the score does when they change."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from tqdm.auto import tqdm

from captum_3dcam import functional
from captum_3dcam._captum import (
    expand_additional_forward_args,
    format_additional_forward_args,
)
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.forward_run import Network
from captum_3dcam._capture.layer_calls import LayerCalls, plain_tensor
from captum_3dcam._capture.perturbed_run import ChannelAblation, run_perturbed
from captum_3dcam._capture.reduction import LayerFactors, Reduction
from captum_3dcam._inputs import (
    Inputs,
    format_inputs,
    input_sizes,
    over_channels,
    reference_input,
)
from captum_3dcam._layerwise_cam import LayerSpec, LayerwiseCAM, Request
from captum_3dcam._passes import Factors
from captum_3dcam._targets import pinned_target, repeated_target, select_output, select_scores
from captum_3dcam._validation import check_flag, check_integer, warn

_COUPLING = (_NormBase, _DropoutNd)

_Weights = list[list[list[Tensor]]]
"""Of each target, and of each layer and explained call, the channels' weights (N, C)."""


class _PerturbationCAM(LayerwiseCAM):
    """norm(↑ relu Σ_c w_c A_c) with weights from a forward pass for each channel of each layer."""

    _name: ClassVar[str]
    _repeats = True

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerSpec | Sequence[LayerSpec] | Literal["auto"],
        device_ids: list[int] | None = None,
        *,
        perturbations_per_eval: int = 16,
        show_progress: bool = False,
        fusion: functional.Fusion = "sum",
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """As :class:`LayerwiseGradCAM`, and two arguments of Captum's perturbation methods.

        Args:
            perturbations_per_eval: how many copies of the batch, each with another perturbation,
                go into one forward pass, whose memory grows by as much.
            show_progress: show a progress bar for each layer.
        """
        super().__init__(
            forward_func,
            layers,
            device_ids,
            fusion=fusion,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
            output=output,
            input_layout=input_layout,
        )
        self.perturbations_per_eval = check_integer(
            "perturbations_per_eval", perturbations_per_eval
        )
        check_flag("show_progress", show_progress)
        self.show_progress = show_progress

    @staticmethod
    def rule(activation: Tensor) -> functional.Factors:
        """The activation itself, which is weighted afterwards."""
        return (activation,)

    @property
    def reduction(self) -> Reduction:
        return _reduction.activations_alone(self.rule)

    def _refined(self, factors: Factors, request: Request, position: int) -> Factors:
        if self not in request.memo:
            request.memo[self] = self._weights(factors, request)
        weights = request.memo[self][position]
        return [
            [
                LayerFactors((_weighted(call.factors[0], of_call),), {})
                for call, of_call in zip(calls, of_layer, strict=True)
            ]
            for calls, of_layer in zip(factors, weights, strict=True)
        ]

    def _weights(self, factors: Factors, request: Request) -> _Weights:
        """From one forward pass for each perturbation, whatever the number of targets."""
        if _is_coupled(self.forward_func):
            warn(
                f"{self._name} perturbs a model in train mode, where normalisation and dropout let "
                "the perturbations change each other's scores. Call model.eval()."
            )
        output = request.recording.output.detach()
        targets = [pinned_target(target, output) for target in request.targets]
        scores = torch.stack([select_scores(output, target) for target in targets])[:, None]
        of_targets: _Weights = [[] for _ in targets]
        for calls, of_layer in zip(request.recording.layers, factors, strict=True):
            of_calls = [
                self._weigh(scores, self._perturbed_scores(explained, targets, request))
                for explained in (
                    _Explained(calls, number, call.factors[0])
                    for number, call in enumerate(of_layer)
                )
            ]
            for number, own in enumerate(of_targets):
                own.append([weights[number].T for weights in of_calls])
        return of_targets

    def _perturbed_scores(
        self, explained: "_Explained", targets: Sequence[Any], request: Request
    ) -> Tensor:
        """The score of each target for the perturbation by each channel: (targets, C, N)."""
        samples, channels = explained.activation.shape[:2]
        size = self._copies(samples, request.recording.output)
        name = f"{self._name}: {explained.calls.layer.name}"
        bar = tqdm(range(0, channels, size), name, disable=not self.show_progress)
        chunks = (range(start, min(start + size, channels)) for start in bar)
        return torch.cat([self._chunk(explained, each, targets, request) for each in chunks], 1)

    def _copies(self, samples: int, output: Tensor) -> int:
        """How many copies of the batch go together: one where the batch has a single score.

        Raises ValueError for several samples that share a score.
        """
        is_shared = output.shape in ((), (1,)) or len(output) != samples
        if is_shared and samples > 1:
            raise ValueError(
                f"{self._name} needs a score for each sample, because it perturbs each; the output "
                f"of shape {tuple(output.shape)} is one for {samples}. Explain one at a time."
            )
        return 1 if is_shared else self.perturbations_per_eval

    def _chunk(
        self, explained: "_Explained", channels: range, targets: Sequence[Any], request: Request
    ) -> Tensor:
        """The scores of the perturbations by these channels together: (targets, channels, N)."""
        copies, options = len(channels), request.options
        arguments = options.additional_forward_args
        if arguments is not None:
            arguments = format_additional_forward_args(arguments)
            arguments = expand_additional_forward_args(arguments, copies)
        inputs, edit = self._perturb(explained, channels, request.inputs)
        network = Network(self.forward_func, isinstance(request.inputs, list))
        layer_input = options.attribute_to_layer_input
        returned = run_perturbed(network, inputs, arguments, edit, layer_input)
        output = plain_tensor(select_output(returned, self.output)).detach()
        scores = [select_scores(output, repeated_target(target, copies)) for target in targets]
        stacked: Tensor = torch.stack(scores).unflatten(1, (copies, -1))
        return stacked

    def _perturb(
        self, explained: "_Explained", channels: range, inputs: Inputs
    ) -> tuple[tuple[Tensor, ...], ChannelAblation | None]:
        """The inputs, a copy of the batch for each channel, and what is done to the layer."""
        raise NotImplementedError

    @staticmethod
    def _weigh(scores: Tensor, perturbed: Tensor) -> Tensor:
        """The channels' weights from the scores (targets, 1, N) and those of perturbations."""
        raise NotImplementedError


class _Explained(NamedTuple):
    """A call of a layer: which of those that are explained, and its activation (N, C, *S_k)."""

    calls: LayerCalls
    number: int
    activation: Tensor


class LayerwiseScoreCAM(_PerturbationCAM):
    """Score-CAM per layer, max-normalised and fused, without gradients.

    norm(↑ relu Σ_c w_c A_c), w = softmax over channels of the score for x ⊙ m_c, where the mask m_c
    is ↑A_c scaled to [0, 1] by its minimum and maximum (Wang et al., 2020, arXiv 1910.01279). One
    forward pass for each channel of each layer, however many classes are explained. Of several
    inputs, the one that the map lies over is masked.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> LayerwiseScoreCAM(model, "1").attribute(torch.rand(2, 1, 8, 8, 8), target=2).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    _name = "Score-CAM"

    def _perturb(
        self, explained: _Explained, channels: range, inputs: Inputs
    ) -> tuple[tuple[Tensor, ...], None]:
        reference = reference_input(inputs)
        _, size = input_sizes(reference, self.input_layout)
        _check_masked(explained, reference, size)
        activation = explained.activation[:, channels.start : channels.stop]
        masked = torch.cat(
            [
                reference * over_channels(mask, reference, self.input_layout)
                for mask in self._masks(activation, size).to(reference).unbind(dim=1)
            ]
        )
        return tuple(
            masked if x is reference else _repeated(x, channels) for x in format_inputs(inputs)
        ), None

    @staticmethod
    def _weigh(scores: Tensor, perturbed: Tensor) -> Tensor:
        return perturbed.softmax(dim=1)

    def _masks(self, activation: Tensor, size: tuple[int, ...]) -> Tensor:
        """Each channel, upsampled and scaled to [0, 1]; zero where it is constant."""
        options = (self.interpolate_mode, self.align_corners)
        return functional.scale_channels(functional.upsample(activation, size, *options))


class LayerwiseAblationCAM(_PerturbationCAM):
    """Ablation-CAM per layer, max-normalised and fused, without gradients.

    norm(↑ relu Σ_c w_c A_c), w_c = y − y_c, with y_c the score when channel c of the layer is zero
    on the grid of the map; class tokens keep theirs (Desai, Ramaswamy, 2020, doi
    10.1109/WACV45572.2020.9093360). The paper divides by y, which the normalisation undoes, and
    which would turn the map's sign where y is negative. One forward pass for each channel of each
    layer, however many classes are explained.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> LayerwiseAblationCAM(model, "1").attribute(torch.rand(2, 1, 8, 8, 8), target=2).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    _name = "Ablation-CAM"

    def _perturb(
        self, explained: _Explained, channels: range, inputs: Inputs
    ) -> tuple[tuple[Tensor, ...], ChannelAblation]:
        calls, number, activation = explained
        samples, rank = len(activation), activation.ndim - 2
        call = _ablated_call(calls, number)
        edit = ChannelAblation(calls.layer, channels, samples, rank, call)
        return tuple(_repeated(x, channels) for x in format_inputs(inputs)), edit

    @staticmethod
    def _weigh(scores: Tensor, perturbed: Tensor) -> Tensor:
        """y − y_c, zero where that is no more than rounding: normalised, noise would be a map."""
        precision = torch.finfo(scores.dtype)
        margin = (2 if precision.bits == 16 else 32) * precision.eps
        drops = scores - perturbed
        noise = margin * torch.maximum(scores.abs(), perturbed.abs())
        return drops.masked_fill(drops.abs() <= noise, 0)


def _repeated(x: Tensor, channels: range) -> Tensor:
    """A copy of the batch for each channel."""
    return torch.cat([x] * len(channels))


def _check_masked(explained: _Explained, reference: Tensor, size: tuple[int, ...]) -> None:
    if not reference.is_floating_point():
        raise TypeError(
            f"Score-CAM multiplies the input by masks, which takes floating-point numbers; "
            f"received {reference.dtype}. Pass what the first layer takes, e.g. embeddings."
        )
    rank = explained.activation.ndim - 2
    if len(size) != rank:
        raise ValueError(
            f"Score-CAM masks the input of shape {tuple(reference.shape)} by layer "
            f"{explained.calls.layer.name!r}, which takes as many spatial axes: {len(size)} and "
            f"{rank}. Choose another method, as Ablation-CAM."
        )


def _is_coupled(forward_func: Any) -> bool:
    """Whether a module in train mode lets samples change each other's scores, or draws for each."""
    modules = forward_func.modules() if isinstance(forward_func, nn.Module) else ()
    return any(module.training and isinstance(module, _COUPLING) for module in modules)


def _ablated_call(calls: LayerCalls, number: int) -> int | None:
    """Which call of the layer loses a channel: the explained one, or all that are stacked."""
    chosen = calls.layer.calls
    if calls.stacked:
        return None
    if isinstance(chosen, int):
        return chosen
    return number if chosen == "sum" else calls.count - 1


def _weighted(activation: Tensor, weights: Tensor) -> Tensor:
    """relu Σ_c w_c A_c: (N, C, *S) and (N, C) -> (N, 1, *S)."""
    wide = torch.promote_types(weights.dtype, torch.float32)
    ones = [1] * (activation.ndim - 2)
    of_channels = weights.to(activation.device, wide).reshape(*weights.shape, *ones)
    return functional.channel_sum(activation * of_channels).relu()
