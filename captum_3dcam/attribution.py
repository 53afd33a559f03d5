"""The Captum classes: 3DCAM over layers, its counterfactual, and the baselines it is held against.

Each class is one layer rule of :mod:`captum_3dcam.functional` over the same capture, upsampling,
normalisation and fusion.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from operator import index as to_int
from typing import Any, ClassVar, NamedTuple

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_3dcam import functional
from captum_3dcam._capture import (
    Inputs,
    Parts,
    Recording,
    Reduction,
    format_inputs,
    record,
    top_classes,
)
from captum_3dcam.layers import Layer, resolve_layers

LayerSpec = nn.Module | str | Layer


class _Canvas(NamedTuple):
    """What the maps are drawn on: their spatial size, and the device they end on."""

    size: tuple[int, ...]
    device: torch.device


class LayerwiseCAM(LayerAttribution, GradientAttribution):  # type: ignore[misc]
    """A class activation map over a list of layers; a subclass gives the layer rule.

    >>> class ActivationCAM(LayerwiseCAM):
    ...     rule = staticmethod(lambda activation, gradient: (functional.channel_sum(activation),))
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten())
    >>> ActivationCAM(model, "1").attribute(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 1, 8, 8])
    """

    rank: ClassVar[int | None] = None
    """The number of spatial axes that the class is pinned to; None takes any."""

    @staticmethod
    def rule(activation: Tensor, gradient: Tensor) -> functional.Factors:
        """The layer rule: (N, C, *S_k) twice -> its factors, each (N, 1, *S_k)."""
        raise NotImplementedError("A subclass of LayerwiseCAM gives the layer rule.")

    @property
    def reduction(self) -> Reduction:
        """What a layer is reduced to in the passes; by default the factors of the rule."""
        return Reduction(
            of_activation=lambda activation: (activation.clone(),),
            of_gradient=lambda gradient: (gradient,),
            join=lambda activation, gradient: self.rule(*activation, *gradient),
        )

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layers: LayerSpec | Sequence[LayerSpec],
        device_ids: list[int] | None = None,
        *,
        fusion: functional.Fusion = "sum",
        interpolate_mode: str | None = None,
        align_corners: bool = False,
    ) -> None:
        """Choose what to explain; the model does not run yet.

        Args:
            forward_func: the model, or a function of its inputs that returns scores (N, ...).
            layers: a module, a dotted name or a :class:`~captum_3dcam.Layer`, or a list of these.
            device_ids: as in Captum, only for a DataParallel model inside a function.
            fusion: how the layer maps become one: "sum" (the paper's), "mean", "max", "product",
                "geometric_mean", or a callable from (K, N, 1, *S) to (N, 1, *S).
            interpolate_mode: of :func:`torch.nn.functional.interpolate`; linear by default.
            align_corners: of the same; False as in torch and Captum.

        Raises:
            TypeError, ValueError: for layers that are none, unknown names, fusions or modes.
        """
        if not isinstance(device_ids, (list, tuple, type(None))):
            raise TypeError(
                f"device_ids must be a list of ints; got {device_ids!r}. Several layers go into "
                "one list, layers=[first, second]; fusion and the rest are given by keyword."
            )
        self.layers = resolve_layers(layers, forward_func)
        modules = [layer.module for layer in self.layers]
        # Captum's name for it: one module where one was given, else the list.
        LayerAttribution.__init__(
            self, forward_func, modules if len(modules) > 1 else modules[0], device_ids
        )
        GradientAttribution.__init__(self, forward_func)
        self.fusion = fusion if callable(fusion) else functional.check_fusion(fusion)
        self.interpolate_mode = functional.check_interpolation(
            interpolate_mode, align_corners, self.rank
        )
        self.align_corners = align_corners

    @classmethod
    def get_name(cls) -> str:
        """The class name in words, acronyms kept whole.

        >>> GlobalLocalCAM3D.get_name()
        'Global Local CAM 3D'
        """
        boundary = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Z])(?=\d)"
        return re.sub(boundary, " ", cls.__name__)

    @log_usage(part_of_slo=True)
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        attribute_to_layer_input: bool = False,
        output_size: int | Sequence[int] | None = None,
        per_layer: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """The fused map (N, 1, *S) of each sample, from one forward and one backward pass.

        Args:
            inputs: a tensor (N, C, *S), or a tuple of tensors for a model of several inputs.
            target: which score to explain, in any of Captum's forms. None takes each sample's
                highest class (the lowest index on ties).
            additional_forward_args: passed on to ``forward_func`` after the inputs.
            attribute_to_layer_input: use the layers' inputs instead of their outputs.
            output_size: *S; by default that of the first input, ``inputs.shape[2:]``. One
                number stands for all axes.
            per_layer: return the tuple of layer maps, each (N, 1, *S) in [0, 1], before fusion.

        Returns:
            A float32 (or float64) tensor without gradient, on the device of the first input.
            Inputs given as a tuple of one come back as a tuple of one, as Captum's metrics expect.

        Raises:
            TypeError, ValueError, IndexError: for inputs, targets, layers or sizes that do not
                fit; RuntimeError for a layer that did not run or does not reach the score, for
                NaN and Inf, and under ``torch.inference_mode``.
        """
        recording, canvas = self._record(
            inputs, additional_forward_args, attribute_to_layer_input, output_size
        )
        factors = self._factors(recording.reduced(target))
        if per_layer:
            return tuple(self._layer_maps(factors, canvas))
        fused = self._fuse(factors, canvas)
        # Captum's metrics wrap a single input in a tuple, and expect its map wrapped likewise.
        return (fused,) if isinstance(inputs, tuple) and len(inputs) == 1 else fused

    @log_usage(part_of_slo=True)
    def attribute_top_k(
        self,
        inputs: Inputs,
        k: int = 3,
        additional_forward_args: Any = None,
        *,
        attribute_to_layer_input: bool = False,
        output_size: int | Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Maps (N, k, *S) of the k highest classes, and their indices (N, k), from one forward.

        The arguments are those of :meth:`attribute`. There is one backward pass per class.

        Raises ValueError for scores that are not (N, classes), and for k out of range.
        """
        recording, canvas = self._record(
            inputs, additional_forward_args, attribute_to_layer_input, output_size
        )
        classes = top_classes(recording.output, k)
        maps = []
        for target in classes.unbind(dim=1):
            factors = self._factors(recording.reduced(target, retain_graph=True))
            maps.append(self._fuse(factors, canvas))
        return torch.cat(maps, dim=1), classes

    def _record(
        self,
        inputs: Inputs,
        additional_forward_args: Any,
        attribute_to_layer_input: bool,
        output_size: int | Sequence[int] | None,
    ) -> tuple[Recording, _Canvas]:
        tensors = format_inputs(inputs)
        canvas = _Canvas(self._output_size(tensors[0], output_size), tensors[0].device)
        recording = record(
            self.forward_func,
            self.layers,
            tensors,
            additional_forward_args,
            reduction=self.reduction,
            attribute_to_layer_input=attribute_to_layer_input,
            device_ids=self.device_ids,
        )
        self._check_rank(recording, canvas)
        return recording, canvas

    def _output_size(self, x: Tensor, output_size: int | Sequence[int] | None) -> tuple[int, ...]:
        rank = x.ndim - 2
        if output_size is None:
            size = tuple(x.shape[2:])
        else:
            given = output_size if isinstance(output_size, Iterable) else [output_size] * rank
            size = tuple(map(to_int, given))
        if self.rank not in (None, len(size)):
            raise ValueError(
                f"{type(self).__name__} makes maps of {self.rank} spatial axes; an input of shape "
                f"{tuple(x.shape)} with output_size={output_size} asks for {len(size)}: {size}. "
                "Add a batch axis if it has none, inputs[None]; or use the class of that rank, or "
                "the one that takes any; or pass another output_size."
            )
        if not size or min(size) < 1:
            raise ValueError(
                f"An input of shape {tuple(x.shape)} with output_size={output_size} gives no size "
                "for the map. Pass output_size, a positive number for each spatial axis."
            )
        functional.check_interpolation(self.interpolate_mode, self.align_corners, len(size))
        return size

    def _check_rank(self, recording: Recording, canvas: _Canvas) -> None:
        rank = len(canvas.size)
        for layer, shape in zip(self.layers, recording.shapes, strict=True):
            if len(shape) - 2 != rank:
                raise ValueError(
                    f"Layer {layer.name!r} gives {len(shape) - 2} spatial axes, shape {shape}, "
                    f"but the map is to have {rank}: {canvas.size}. Pass output_size, or make the "
                    "layer a grid with Layer(..., reshape=...)."
                )

    def _factors(self, reduced: list[Parts]) -> list[Parts]:
        """Of each layer, from its reduction."""
        return reduced

    def _layer_maps(self, factors: list[Parts], canvas: _Canvas) -> Iterator[Tensor]:
        """One map at a time, so that fusing needs no more than three of the map's size."""
        for of_layer in factors:
            yield functional.layer_map(
                of_layer, canvas.size, self.interpolate_mode, self.align_corners
            ).to(canvas.device)

    def _fuse(self, factors: list[Parts], canvas: _Canvas) -> Tensor:
        return functional.fuse(self._layer_maps(factors, canvas), len(self.layers), self.fusion)


class _ChannelSumCAM(LayerwiseCAM):
    """The rules that sum channels apart from each other: no more than the sums is ever held.

    Such sums can cancel, and that is said.
    """

    @property
    def reduction(self) -> Reduction:
        """The rule's factors, and how far the gradient and the activation cancel."""
        return Reduction(_summed, _summed, self._join)

    def _join(self, activation: Parts, gradient: Parts) -> Parts:
        (alpha, alpha_cancels), (beta, beta_cancels) = activation, gradient
        # To a rule, a sum over channels is as good as the channels.
        return (*self.rule(alpha, beta), alpha_cancels, beta_cancels)

    def _factors(self, reduced: list[Parts]) -> list[Parts]:
        device = reduced[0][-1].device
        ratios = torch.stack([ratio.to(device) for of_layer in reduced for ratio in of_layer[-2:]])
        cancelled = (ratios <= 1).any(dim=1).tolist()
        for layer, *found in zip(self.layers, cancelled[::2], cancelled[1::2], strict=True):
            if any(found):
                kinds = compress(("activation", "gradient"), found)
                warnings.warn(
                    f"At layer {layer.name!r} the {' and '.join(kinds)} cancels in the sum "
                    "over channels, so its map is zero or rounding noise. Layer normalisation does "
                    "this to its input's gradient and to its own output: take a layer between two "
                    "of them, e.g. the hidden layer of an MLP block. A softmax over these channels "
                    "does it too: explain the logits. Or take a rule that weighs channels, as "
                    "LayerwiseHiResCAM.",
                    stacklevel=4,  # the caller of attribute(), past Captum's decorator
                )
        return [tuple(factors) for *factors, _, _ in reduced]


def _summed(x: Tensor) -> Parts:
    total = functional.channel_sum(x)
    return total, functional.cancellation(x, total)


class LayerwiseGlobalLocalCAM(_ChannelSumCAM):
    """3DCAM and Sum3DCAM: where, and when, the network looked to give a score.

    Per layer, 3DCAM_k = norm(↑β) · norm(↑α) with β = Σ_c ∂y/∂A_c, α = Σ_c A_c and norm(x) =
    relu(x) / max relu(x); over the layers, Sum3DCAM = Σ_k 3DCAM_k, in [0, K] (Yudistira,
    Kavitha, Kurita, IJCV 2022, arXiv 2012.09542, eqs. 1-6). Any number of spatial axes.

    The class enters where the gradient varies over space. Under global average pooling and a
    linear head it is constant at the last layer, whose map is then the same for every class
    that it does not switch off: choose layers before it.

    >>> model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    >>> clip = torch.rand(2, 3, 4, 8, 8)
    >>> _ = model(clip)
    >>> LayerwiseGlobalLocalCAM(model, layers=["0", model[1]]).attribute(clip).shape
    torch.Size([2, 1, 4, 8, 8])
    """

    rule = staticmethod(functional.global_local)


class GlobalLocalCAM2D(LayerwiseGlobalLocalCAM):
    """:class:`LayerwiseGlobalLocalCAM` for images (N, C, H, W); ValueError for another rank."""

    rank = 2


class GlobalLocalCAM3D(LayerwiseGlobalLocalCAM):
    """:class:`LayerwiseGlobalLocalCAM` for clips (N, C, T, H, W) and volumes (N, C, D, H, W).

    Raises ValueError for an input of another rank.

    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> GlobalLocalCAM3D(model, "1").attribute(torch.rand(1, 1, 8, 8, 8)).shape
    torch.Size([1, 1, 8, 8, 8])
    """

    rank = 3


class CounterfactualCAM(_ChannelSumCAM):
    """Where, and when, the network saw what speaks against a score.

    3DCAM with the gradient negated, β̂ = −β, renormalised by its own maximum, and the same α
    (Yudistira, Kavitha, Kurita, IJCV 2022, eq. 7). Layer by layer its support is disjoint from
    that of :class:`LayerwiseGlobalLocalCAM`. In [0, K]; any number of spatial axes.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten())
    >>> CounterfactualCAM(model, "0").attribute(torch.rand(1, 3, 8, 8), target=2).shape
    torch.Size([1, 1, 8, 8])
    """

    rule = staticmethod(functional.counterfactual)


class CounterfactualCAM2D(CounterfactualCAM):
    """:class:`CounterfactualCAM` for images (N, C, H, W); ValueError for another rank."""

    rank = 2


class CounterfactualCAM3D(CounterfactualCAM):
    """:class:`CounterfactualCAM` for clips and volumes; ValueError for another rank."""

    rank = 3


class LayerwiseGradCAM(LayerwiseCAM):
    """Grad-CAM per layer, max-normalised and fused; with one layer, Captum's ``LayerGradCam``.

    norm(↑ relu Σ_c mean(G_c) A_c) (Selvaraju et al., 2017, arXiv 1610.02391).
    """

    rule = staticmethod(functional.grad_cam)


class LayerwiseGradCAMPlusPlus(LayerwiseCAM):
    """Grad-CAM++ per layer, max-normalised and fused.

    norm(↑ relu Σ_c w_c A_c), w_c = Σ_s relu(G_cs) / (2 + G_cs Σ A_c), for the score exp(y)
    (Chattopadhay et al., 2018, arXiv 1710.11063). It depends on the scale of the score.
    """

    rule = staticmethod(functional.grad_cam_plus_plus)


class LayerwiseLayerCAM(LayerwiseCAM):
    """LayerCAM per layer, norm(↑ relu Σ_c relu(G_c) A_c), fused (Jiang et al., 2021)."""

    rule = staticmethod(functional.layer_cam)


class LayerwiseHiResCAM(LayerwiseCAM):
    """HiResCAM per layer, norm(↑ relu Σ_c G_c A_c), fused (Draelos, Carin, 2020)."""

    rule = staticmethod(functional.hi_res_cam)


class LayerwiseXGradCAM(LayerwiseCAM):
    """XGrad-CAM per layer, max-normalised and fused.

    norm(↑ relu Σ_c w_c A_c), w_c = Σ_s G_cs A_cs / Σ_s A_cs (Fu et al., 2020, arXiv 2008.02312).
    """

    rule = staticmethod(functional.x_grad_cam)


class LayerwiseWhatWhereCAM(LayerwiseCAM):
    """What x where: this package's own map, which is neither 3DCAM nor from its paper.

    Per layer, R = G ⊙ (A − Ā) is the first-order effect on the score of making a place as the
    layer is on average. Over K layers,

        what = 1/K Σ_k norm(↑ pool Σ_c R_c),  where = (Π_k norm(↑ mean_3 Σ_c R_c²))^(1/K),

    with every layer's net effect pooled to the coarsest grid of them all, and the map is what ·
    where, in [0, 1]. Any number of spatial axes; one backward pass; nothing to set. The map of
    one layer is what ``per_layer=True`` gives; the fused one is not their sum: no ``fusion``.

    A layer of a single place has no average to differ from, and says nothing.

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
        layers: LayerSpec | Sequence[LayerSpec],
        device_ids: list[int] | None = None,
        *,
        interpolate_mode: str | None = None,
        align_corners: bool = False,
    ) -> None:
        """As :class:`LayerwiseGlobalLocalCAM`, without ``fusion``."""
        super().__init__(
            forward_func,
            layers,
            device_ids,
            interpolate_mode=interpolate_mode,
            align_corners=align_corners,
        )

    def _fuse(self, factors: list[Parts], canvas: _Canvas) -> Tensor:
        effects = [
            functional.Effect(*(part.to(canvas.device) for part in each)) for each in factors
        ]
        return functional.what_where(
            effects, canvas.size, self.interpolate_mode, self.align_corners
        )
