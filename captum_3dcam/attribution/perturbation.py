"""Score-CAM and Ablation-CAM: channels weighted by what the score does when they change."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from tqdm.auto import tqdm

from captum_3dcam import functional
from captum_3dcam._captum import expand_additional_forward_args
from captum_3dcam._capture import reduction as _reduction
from captum_3dcam._capture.layer_calls import LayerCalls
from captum_3dcam._capture.perturbed_run import ChannelAblation, Network, run_perturbed
from captum_3dcam._capture.reduction import LayerFactors, Reduction
from captum_3dcam._inputs import format_inputs, input_sizes, over_channels, reference_input
from captum_3dcam._layerwise_cam import LayerSpec, LayerwiseCAM, Request
from captum_3dcam._passes import Factors
from captum_3dcam._targets import pinned_target, repeated_target, select_scores
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
        targets = [pinned_target(target, request.recording.output) for target in request.targets]
        of_targets: _Weights = [[] for _ in targets]
        for calls, of_layer in zip(request.recording.layers, factors, strict=True):
            of_calls = [
                self._layer_weights(call.factors[0], number, calls, targets, request)
                for number, call in enumerate(of_layer)
            ]
            for number, own in enumerate(of_targets):
                own.append([weights[number] for weights in of_calls])
        return of_targets

    def _layer_weights(
        self,
        activation: Tensor,
        number: int,
        calls: LayerCalls,
        targets: Sequence[Any],
        request: Request,
    ) -> Tensor:
        """The weights (targets, N, C) of the channels of a layer's explained call."""
        raise NotImplementedError

    def _chunks(self, activation: Tensor, layer: str, output: Tensor) -> Iterator[range]:
        """The channels that are perturbed together; of one score for the batch, one by one.

        Raises ValueError for several samples that share a score.
        """
        samples, channels = activation.shape[:2]
        is_shared = output.shape in ((), (1,)) or len(output) != samples
        if is_shared and samples > 1:
            raise ValueError(
                f"{self._name} needs a score for each sample, because it perturbs each; the output "
                f"of shape {tuple(output.shape)} is one for {samples}. Explain one at a time."
            )
        size = 1 if is_shared else self.perturbations_per_eval
        starts = range(0, channels, size)
        bar = tqdm(starts, f"{self._name}: {layer}", disable=not self.show_progress)
        for start in bar:
            yield range(start, min(start + size, channels))

    def _scores(
        self,
        inputs: tuple[Tensor, ...],
        copies: int,
        targets: Sequence[Any],
        request: Request,
        edit: ChannelAblation | None = None,
    ) -> Tensor:
        """The score of each target for so many copies of the batch: (targets, copies, N)."""
        options = request.options
        arguments = options.additional_forward_args
        if arguments is not None:
            arguments = arguments if isinstance(arguments, tuple) else (arguments,)
            arguments = expand_additional_forward_args(arguments, copies)
        is_list = isinstance(request.inputs, list)
        network = Network(self.forward_func, self.output, is_list, options.attribute_to_layer_input)
        output = run_perturbed(network, inputs, arguments, edit)
        scores = [select_scores(output, repeated_target(target, copies)) for target in targets]
        stacked: Tensor = torch.stack(scores).unflatten(1, (copies, -1))
        return stacked


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

    def _layer_weights(
        self,
        activation: Tensor,
        number: int,
        calls: LayerCalls,
        targets: Sequence[Any],
        request: Request,
    ) -> Tensor:
        tensors = format_inputs(request.inputs)
        masked = next(n for n, x in enumerate(tensors) if x is reference_input(request.inputs))
        reference = tensors[masked]
        if not reference.is_floating_point():
            raise TypeError(
                f"Score-CAM multiplies the input by masks, which takes floating-point numbers; "
                f"received {reference.dtype}. Pass what the first layer takes, e.g. embeddings."
            )
        _, size = input_sizes(reference, self.input_layout)
        if len(size) != activation.ndim - 2:
            raise ValueError(
                f"Score-CAM masks the input of shape {tuple(reference.shape)} by layer "
                f"{calls.layer.name!r}, which takes as many spatial axes: {len(size)} and "
                f"{activation.ndim - 2}. Choose another method, as Ablation-CAM."
            )
        scores = []
        for chunk in self._chunks(activation, calls.layer.name, request.recording.output):
            masks = self._masks(activation[:, chunk.start : chunk.stop], size).to(reference)
            copies = [torch.cat([x] * len(chunk)) for x in tensors]
            copies[masked] = torch.cat(
                [
                    reference * over_channels(mask, reference, self.input_layout)
                    for mask in masks.unbind(dim=1)
                ]
            )
            scores.append(self._scores(tuple(copies), len(chunk), targets, request))
        return torch.cat(scores, dim=1).transpose(1, 2).softmax(dim=2)

    def _masks(self, activation: Tensor, size: tuple[int, ...]) -> Tensor:
        """Each channel, upsampled and scaled to [0, 1]; zero where it is constant."""
        options = (self.interpolate_mode, self.align_corners)
        masks = functional.upsample(activation, size, *options).flatten(2)
        low, high = (edge.values[..., None] for edge in (masks.min(dim=2), masks.max(dim=2)))
        scaled = (masks - low) / torch.where(high > low, high - low, torch.inf)
        return scaled.reshape(*activation.shape[:2], *size)


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

    def _layer_weights(
        self,
        activation: Tensor,
        number: int,
        calls: LayerCalls,
        targets: Sequence[Any],
        request: Request,
    ) -> Tensor:
        tensors = format_inputs(request.inputs)
        samples, rank = len(activation), activation.ndim - 2
        score = self._scores(tensors, 1, targets, request)
        drops = []
        for chunk in self._chunks(activation, calls.layer.name, request.recording.output):
            edit = ChannelAblation(calls.layer, chunk, samples, rank, _ablated_call(calls, number))
            copies = tuple(torch.cat([x] * len(chunk)) for x in tensors)
            drops.append(_drop(score, self._scores(copies, len(chunk), targets, request, edit)))
        return torch.cat(drops, dim=1).transpose(1, 2)


def _is_coupled(forward_func: Any) -> bool:
    """Whether a module in train mode lets samples change each other's scores, or draws for each."""
    modules = forward_func.modules() if isinstance(forward_func, nn.Module) else ()
    return any(module.training and isinstance(module, _COUPLING) for module in modules)


def _drop(score: Tensor, ablated: Tensor) -> Tensor:
    """y − y_c, zero where that is no more than rounding: normalised, noise would be a map."""
    precision = torch.finfo(score.dtype)
    margin = (2 if precision.bits == 16 else 32) * precision.eps
    drop = score - ablated
    return drop.masked_fill(drop.abs() <= margin * torch.maximum(score.abs(), ablated.abs()), 0)


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
