"""The base of the Captum classes: record the forward pass, reduce the layers, draw the map."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from operator import index as to_int
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_3dcam import functional
from captum_3dcam._capture.extremes import Extremes, unscaled
from captum_3dcam._capture.recording import Recording, record
from captum_3dcam._capture.reduction import Reduction, whole_tensors
from captum_3dcam._diagnosis import (
    cancelled_sums,
    empty_maps,
    featureless_samples,
    misread_input,
    misread_layers,
    sample_peaks,
    unchosen_calls,
    unstable_gradients,
)
from captum_3dcam._inputs import (
    Inputs,
    format_inputs,
    input_sizes,
    reference_input,
    scale_inputs,
)
from captum_3dcam._layer_choice.choice import choose_layers
from captum_3dcam._layout import Layout
from captum_3dcam._passes import Factors, Pass, draw_maps
from captum_3dcam._restoration import Restoration, interruptible, restored
from captum_3dcam._targets import select_scores, top_classes
from captum_3dcam._validation import warn
from captum_3dcam.layers import Layer, resolve_layers

_AUTO = "auto"
# Shares by which inputs are scaled down, and factors of the score: several, for noise may repeat.
_NEARBY = ((2**-10, 0.7), (2**-9, 1.3), (2**-11, 0.3))
_TARGETS_TOGETHER = 8  # that are drawn as one batch; of more, that would take much memory
_logger = logging.getLogger(__name__)

LayerSpec = nn.Module | str | Layer


class Geometry(NamedTuple):
    """The spatial size of the maps, that of the input, and the number of samples."""

    size: tuple[int, ...]
    input_size: tuple[int, ...]
    batch_size: int


class Options(NamedTuple):
    """The arguments of ``attribute`` that the forward pass needs."""

    additional_forward_args: Any = None
    attribute_to_layer_input: bool = False
    output_size: int | Sequence[int] | None = None
    create_graph: bool = False


class Request(NamedTuple):
    """What a call explains."""

    inputs: Inputs
    options: Options
    recording: Recording
    targets: Sequence[Any]
    memo: dict[Any, Any]
    """What attributions keep from one target to the next."""


def _missing_rule(*of_layer: Tensor) -> functional.Factors:
    raise NotImplementedError("A subclass of LayerwiseCAM gives the layer rule.")


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
    _evidence: ClassVar[str] = "for"
    """What the map shows: evidence "for" the score, or "against" it."""
    _of_class: ClassVar[bool] = True
    """Whether the map depends on the target."""
    _is_differentiable: ClassVar[bool] = True
    """Whether a map of one gradient is: not where it depends on principal directions."""
    _repeats: bool = False
    """Whether the model runs on the inputs again, to which it may have written."""

    rule: ClassVar[functional.LayerRule] = staticmethod(_missing_rule)
    """The layer rule: (N, C, *S_k) twice -> its factors, each (N, 1, *S_k)."""

    @property
    def reduction(self) -> Reduction:
        """What is kept of a layer in the two passes; by default whole tensors, for any rule."""
        return whole_tensors(self.rule)

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerSpec | Sequence[LayerSpec] | Literal["auto"],
        device_ids: list[int] | None = None,
        *,
        fusion: functional.Fusion = "sum",
        interpolate_mode: str | None = None,
        align_corners: bool = False,
        output: str | int | Callable[[Any], Tensor] | None = None,
        input_layout: str | None = None,
    ) -> None:
        """Choose what to explain; the model does not run yet.

        Args:
            forward_func: the model, or a function of its inputs, that returns scores (N, ...).
            layers: a module, a dotted name or a :class:`~captum_3dcam.Layer`, or a list of these.
                "auto" takes those of :func:`~captum_3dcam.suggest_layers` for the first inputs
                that are explained, and keeps them; ``cam.layers`` shows them.
            device_ids: as in Captum, only for a DataParallel model inside a function.
            fusion: how the layer maps become one: "sum" (the paper's), "mean", "max", "product",
                "geometric_mean", or a callable from (K, N, 1, *S) to (N, 1, *S).
            interpolate_mode: of :func:`torch.nn.functional.interpolate`; linear by default.
            align_corners: of the same; False as in torch and Captum.
            output: where the scores are in what the model returns: a key, an attribute, an index
                or a function. By default the tensor itself, the only one in a container, or the
                one named "logits" or "out".
            input_layout: the axes of the first input in their order, as "N T C H W" for models
                that take frames first, or "(N T=8) C H W" for clips of 8 frames folded into the
                batch. By default (N, C, *S).

        Raises:
            TypeError, ValueError: for what is no layer, unknown names, fusions, modes or layouts.
        """
        if not isinstance(device_ids, (list, tuple, type(None))):
            raise TypeError(
                f"device_ids must be a list of ints; received {device_ids!r}. Several layers go "
                "into one list, layers=[first, second]; fusion and the rest are keywords."
            )
        is_auto = isinstance(layers, str) and layers == _AUTO
        self.layers = () if is_auto else resolve_layers(layers, forward_func)
        """Empty until the first call, where they are chosen by the model's first inputs."""
        LayerAttribution.__init__(self, forward_func, self._captum_layer(), device_ids)
        GradientAttribution.__init__(self, forward_func)
        self.fusion = fusion if callable(fusion) else functional.check_fusion(fusion)
        self.interpolate_mode = functional.check_interpolation(
            interpolate_mode, align_corners, self.rank
        )
        self.align_corners = align_corners
        self.output = output
        self.input_layout = None if input_layout is None else Layout.from_text(input_layout)

    def _captum_layer(self) -> Any:
        """Captum's ``layer``: one module where there is one, else the list."""
        modules = [layer.module for layer in self.layers]
        return modules[0] if len(modules) == 1 else modules

    @classmethod
    def get_name(cls) -> str:
        """The class name in words, acronyms kept whole.

        >>> LayerwiseCAM.get_name()
        'Layerwise CAM'
        """
        boundary = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Z])(?=\d)"
        return re.sub(boundary, " ", cls.__name__)

    def __repr__(self) -> str:
        names = f"[{', '.join(repr(layer.name) for layer in self.layers)}]"
        layers = names if self.layers else repr(_AUTO)
        model = self.forward_func
        name = getattr(model, "__name__", type(model).__name__)
        fusion = getattr(self.fusion, "__name__", repr(self.fusion))
        return f"{type(self).__name__}({name}, layers={layers}, fusion={fusion})"

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
        create_graph: bool = False,
    ) -> Tensor | tuple[Tensor, ...]:
        """The fused map (N, 1, *S) of each sample, from one forward and one backward pass.

        Args:
            inputs: a tensor (N, C, *S), or a tuple of tensors for a model of several inputs. A
                list for a model that takes a list, as of pathways; the map lies over the largest.
            target: which score to explain, in any of Captum's forms, or a function of the output
                that returns one score per sample. None takes each sample's highest class (the
                lowest index on ties). A class of a segmentation (N, C, *S) means the sum of its
                scores where it is predicted.
            additional_forward_args: passed on to ``forward_func`` after the inputs.
            attribute_to_layer_input: use the layers' inputs instead of their outputs.
            output_size: *S; by default that of the first input, ``inputs.shape[2:]``. One
                number stands for all axes.
            per_layer: return the tuple of layer maps, each (N, 1, *S) in [0, 1], before fusion.
            create_graph: return maps that one can differentiate, to train a model by them. The
                forward pass keeps its whole graph.

        Returns:
            A float32 (or float64) tensor on the device of the first input, without gradient unless
            ``create_graph``. Inputs given as a tuple of one come back as a tuple of one, as
            Captum's metrics expect.

        Raises:
            TypeError, ValueError, IndexError: for inputs, targets, layers or sizes that do not
                fit; RuntimeError for a layer that did not run or does not reach the score, for
                NaN and Inf, and under ``torch.inference_mode``.
        """
        maps, _ = self._explain(
            inputs,
            Options(additional_forward_args, attribute_to_layer_input, output_size, create_graph),
            lambda recording: [target],
            self._layer_maps if per_layer else self._fused,
        )
        if per_layer:
            return maps
        # Captum's metrics wrap a single input in a tuple, and expect its map wrapped likewise.
        return maps if isinstance(inputs, tuple) and len(inputs) == 1 else maps[0]

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
        maps, output = self._explain(
            inputs,
            Options(additional_forward_args, attribute_to_layer_input, output_size),
            lambda recording: top_classes(recording.output, k).unbind(dim=1),
            self._fused,
        )
        return torch.cat(maps, dim=1), top_classes(output, k)

    @log_usage(part_of_slo=True)
    def attribute_classes(
        self,
        inputs: Inputs,
        classes: Sequence[Any],
        additional_forward_args: Any = None,
        *,
        attribute_to_layer_input: bool = False,
        output_size: int | Sequence[int] | None = None,
    ) -> Tensor:
        """Maps (N, len(classes), *S) of the classes that are named, from one forward pass.

        ``classes`` are targets in any of the forms of :meth:`attribute`, whose arguments the
        others are. There is one backward pass per class.

        Raises ValueError for no classes, and as :meth:`attribute`.

        >>> from captum_3dcam import LayerwiseGradCAM
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(6), nn.Flatten())
        >>> cam = LayerwiseGradCAM(model, "1")
        >>> cam.attribute_classes(torch.rand(2, 3, 8, 8), [3, 0, 1]).shape
        torch.Size([2, 3, 8, 8])
        """
        if isinstance(classes, (str, bytes)) or not isinstance(classes, Iterable):
            raise TypeError(
                f"classes must be a sequence of targets, as [3, 0, 1]; received {classes!r}."
            )
        targets = list(classes)
        if not targets:
            raise ValueError("classes is empty. Pass at least one class.")
        maps, _ = self._explain(
            inputs,
            Options(additional_forward_args, attribute_to_layer_input, output_size),
            lambda recording: targets,
            self._fused,
        )
        return torch.cat(maps, dim=1)

    def attribute_with_output(
        self, inputs: Inputs, target: Any = None, additional_forward_args: Any = None
    ) -> tuple[Tensor, Tensor]:
        """The map of :meth:`attribute`, and the output of the forward pass that it explains.

        A map that is zero brings no warning: of many windows, many may be.
        """
        (fused,), output = self._explain(
            inputs,
            Options(additional_forward_args),
            lambda recording: [target],
            self._fused,
            may_be_empty=True,
        )
        return fused, output

    @restored
    def _explain(
        self,
        inputs: Inputs,
        options: Options,
        targets: Callable[[Recording], Sequence[Any]],
        draw: Callable[[Factors, Recording, Geometry], Iterable[Tensor]],
        may_be_empty: bool = False,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Record, reduce, draw: the maps of each target, and the output that they explain."""

        def explain() -> tuple[tuple[Tensor, ...], Tensor]:
            recording, geometry = self._record(inputs, *options)
            requested = list(targets(recording))
            notes = dict.fromkeys(recording.notes)
            notes |= dict.fromkeys(unchosen_calls(recording))
            if geometry.size == geometry.input_size:  # else the map's size was chosen
                notes |= dict.fromkeys(misread_layers(recording, geometry.size))
                if self.input_layout is None:
                    notes |= dict.fromkeys(misread_input(recording, geometry.size))

            def drawn_maps(factors: Factors) -> Sequence[Tensor]:
                with torch.enable_grad() if recording.create_graph else nullcontext():
                    return tuple(draw(factors, recording, geometry))

            maps: list[Tensor] = []
            passes: list[Pass] = []
            request = Request(inputs, options, recording, requested, {})
            for position in range(len(requested)):
                result = self._pass(request, position)
                refined = self._refined(result.factors, request, position)
                passes.append(result._replace(factors=refined))
                is_last = position + 1 == len(requested)
                if not is_last and len(passes) < self._targets_together:
                    continue
                for result, drawn in zip(passes, draw_maps(passes, drawn_maps), strict=True):
                    notes |= result.notes
                    peaks = sample_peaks(drawn)
                    if not may_be_empty:
                        notes |= dict.fromkeys(self._empty_maps(recording, result, drawn, peaks))
                    maps += drawn
                passes.clear()
            for note in notes:
                warn(note)
            return tuple(maps), recording.output.detach()

        try:
            return explain()
        except RuntimeError as error:
            if options.create_graph or "modified by an inplace operation" not in str(error):
                raise
        # The model writes into what its backward pass needs: keep copies of that.
        with Restoration(), torch.autograd.graph.allow_mutation_on_saved_tensors(), interruptible():
            return explain()

    def _pass(self, request: Request, position: int) -> Pass:
        """The backward pass of a target, if the rule takes a gradient, and what to warn of."""
        inputs, options, recording, targets, _ = request
        target = self._score(targets[position])
        if not self.reduction.uses_gradient:
            if target is not None:
                select_scores(recording.output, target)  # its errors
            return Pass(recording.forward_factors(), (), {})
        factors = recording.factors(target, retain_graph=position + 1 < len(targets))
        notes = dict.fromkeys(cancelled_sums(recording, factors))
        certain = notes or recording.training or options.create_graph
        if recording.doubtful and not certain:
            others = self._extremes_nearby(inputs, options, target)
            notes |= dict.fromkeys(unstable_gradients(recording, others))
        return Pass(factors, recording.gradient_extremes, notes)

    def _score(self, target: Any) -> Any:
        """The target whose score is differentiated, in any form of ``target=``."""
        return target

    def _window_factors(self, probabilities: Tensor) -> Tensor:
        """What the maps of windows are multiplied by to compare them: (n,) -> (n, M)."""
        return (probabilities if self._of_class else torch.ones_like(probabilities))[:, None]

    def _refined(self, factors: Factors, request: Request, position: int) -> Factors:
        """What the maps are drawn from, if that takes more than the rule."""
        return factors

    def _empty_maps(
        self,
        recording: Recording,
        result: Pass,
        drawn: Sequence[Tensor],
        peaks: Sequence[float],
    ) -> Iterator[str]:
        """Why samples have no map; ``peaks`` are the largest values of what was drawn."""
        if not self.reduction.uses_gradient:
            return featureless_samples(recording, peaks)
        return empty_maps(recording, result, peaks, self._evidence)

    @property
    def _targets_together(self) -> int:
        """How many are drawn as one batch. A fusion of the user's is given the samples of one."""
        return 1 if callable(self.fusion) else _TARGETS_TOGETHER

    def _extremes_nearby(
        self, inputs: Inputs, options: Options, target: Any
    ) -> Iterator[list[Extremes]]:
        """Those at the layers in runs that only rounding should tell from the one explained."""
        for share, scale in _NEARBY:
            recording, _ = self._record(scale_inputs(inputs, 1 - share), *options)
            recording.factors(target, scale=scale)
            yield [unscaled(each, scale) for each in recording.extremes]

    def _record(
        self,
        inputs: Inputs,
        additional_forward_args: Any,
        attribute_to_layer_input: bool,
        output_size: int | Sequence[int] | None,
        create_graph: bool = False,
    ) -> tuple[Recording, Geometry]:
        tensors = format_inputs(inputs)
        if not self.layers:
            self._choose_layers(inputs, additional_forward_args)
        geometry = self._geometry(reference_input(inputs), output_size)
        reduction = self.reduction
        is_smooth = reduction.uses_gradient and not reduction.second_order
        if create_graph and not (is_smooth and self._is_differentiable):
            raise ValueError(
                f"{type(self).__name__} is not differentiable; create_graph=True is for methods of "
                "one gradient, as LayerwiseGradCAM."
            )
        recording = record(
            self.forward_func,
            self.layers,
            tuple(tensor.clone() for tensor in tensors) if self._repeats else tensors,
            additional_forward_args,
            reduction=self.reduction,
            batch_size=geometry.batch_size,
            rank=len(geometry.size),
            attribute_to_layer_input=attribute_to_layer_input,
            create_graph=create_graph,
            device_ids=self.device_ids,
            output=self.output,
            as_list=isinstance(inputs, list),
        )
        self._check_rank(recording, geometry)
        return recording, geometry

    def _choose_layers(self, inputs: Inputs, additional_forward_args: Any) -> None:
        """Resolve "auto", by a trial run on these inputs."""
        choice = choose_layers(
            self.forward_func,
            inputs,
            additional_forward_args,
            output=self.output,
            input_layout=self.input_layout,
        )
        self.layers = resolve_layers(choice.layers, self.forward_func)
        self.layer = self._captum_layer()
        if choice.input_layout is not None:
            self.input_layout = Layout.from_text(choice.input_layout)
        _logger.info("%r, input_layout=%r", self, choice.input_layout)

    def _geometry(self, x: Tensor, output_size: int | Sequence[int] | None) -> Geometry:
        batch_size, input_size = input_sizes(x, self.input_layout)
        if output_size is None:
            size = input_size
        else:
            one = not isinstance(output_size, Iterable)
            sizes: Any = [output_size] * len(input_size) if one else output_size
            size = tuple(map(to_int, sizes))
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
        return Geometry(size, input_size, batch_size)

    def _check_rank(self, recording: Recording, geometry: Geometry) -> None:
        rank = len(geometry.size)
        for calls in recording.layers:
            misfits = [shape for shape in calls.shapes if len(shape) - 2 != rank]
            if misfits:
                often = ""
                if calls.count > 1 and not calls.stacked:
                    often = (
                        f" The layer ran {calls.count} times in one forward pass: if those are the "
                        "frames, stack them with Layer(..., calls='stack')."
                    )
                raise ValueError(
                    f"Layer {calls.layer.name!r} gives {len(misfits[0]) - 2} spatial axes, shape "
                    f"{misfits[0]}, but the map is to have {rank}: {geometry.size}. Pass "
                    "output_size, or make the layer a grid with Layer(..., layout=...) or "
                    f"Layer(..., reshape=...).{often}"
                )

    def _layer_maps(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        """One map at a time, so that fusing needs no more than three of the map's size."""
        device = recording.inputs[0].device
        options = (geometry.size, self.interpolate_mode, self.align_corners)
        for calls in factors:
            if len(calls) == 1:
                yield functional.layer_map(calls[0].factors, *options).to(device)
            else:
                each = [call.factors for call in calls]
                yield functional.shared_layer_map(each, *options).to(device)

    def _fused(
        self, factors: Factors, recording: Recording, geometry: Geometry
    ) -> Iterator[Tensor]:
        """The map, fused from those of the layers."""
        maps = self._layer_maps(factors, recording, geometry)
        yield functional.fuse(maps, len(self.layers), self.fusion)
