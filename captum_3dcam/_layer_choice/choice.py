"""Which layers are worth explaining: one at the end of each resolution, by a trial run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log2
from typing import Any

from torch import Tensor, nn

from captum_3dcam._captum import format_additional_forward_args
from captum_3dcam._capture.forward_run import refuse_inference_mode
from captum_3dcam._capture.recording import record
from captum_3dcam._inputs import format_inputs, input_sizes, reference_input, run_model
from captum_3dcam._layer_choice.grids import GridLayer, frames_come_first, on_grids
from captum_3dcam._layer_choice.positions import at_their_positions
from captum_3dcam._layer_choice.statistics import STATISTICS, Statistics, statistics_of
from captum_3dcam._layer_choice.trial_run import ChannelAxes, Shape, Trace, trace
from captum_3dcam._layout import Layout
from captum_3dcam._restoration import restored
from captum_3dcam.layers import Layer

_NEW_STAGE = 1.5  # a stride of 2 halves the size; padding changes it by less

CANCELS = "the sums over its channels cancel"
CONSTANT = "the score's gradient is the same at every position"
UNREACHED = "the score does not depend on it"
IS_OUTPUT = "its channels are the scores of the classes"


@dataclass(frozen=True)
class SurveyedLayer:
    """A layer on a grid, what the trial run tells of it, and whether it is recommended."""

    grid_layer: GridLayer
    statistics: Statistics
    is_output: bool = False
    on_main_path: bool = False
    recommended: bool = False
    reason: str = "not on the main path"

    @property
    def name(self) -> str:
        return self.grid_layer.name

    @property
    def order(self) -> int:
        return self.grid_layer.call.order

    @property
    def depth(self) -> int:
        return self.grid_layer.call.depth

    @property
    def is_activated(self) -> bool:
        return self.statistics.rectified or self.grid_layer.call.is_activated

    @property
    def is_block(self) -> bool:
        return not self.grid_layer.call.is_leaf

    @property
    def defect(self) -> str | None:
        """Why its map would be empty or noise."""
        defects = {
            IS_OUTPUT: self.is_output,
            UNREACHED: not self.statistics.reaches_score,
            CANCELS: self.statistics.activation_cancels or self.statistics.gradient_cancels,
            CONSTANT: self.statistics.gradient_is_constant,
        }
        return next((text for text, applies in defects.items() if applies), None)


@dataclass(frozen=True)
class LayerChoice:
    """The recommended layers, in order of execution, and all that were surveyed."""

    layers: tuple[Layer, ...]
    surveyed: tuple[SurveyedLayer, ...] = ()
    input_layout: str | None = None
    """The axes of the first input, where they are not (N, C, *S)."""


@restored
def choose_layers(
    forward_func: Callable[..., Any],
    inputs: Any,
    additional_forward_args: Any = None,
    *,
    output: Any = None,
    input_layout: Layout | None = None,
    honour_own: bool = True,
) -> LayerChoice:
    """One layer at the end of each resolution: six forward passes and a backward pass.

    The model's own ``LAYERS`` come first, if ``honour_own``.

    Raises ValueError if no layer lies on a grid, and what the model raises.
    """
    model = _unwrapped(forward_func)
    own = own_layers(model)
    if own and honour_own:
        return LayerChoice(own)
    refuse_inference_mode()
    tensors = format_inputs(inputs)
    first = _trace(model, inputs, additional_forward_args)
    x = reference_input(inputs)
    if input_layout is None and frames_come_first(first, tuple(x.shape)):
        input_layout = Layout.from_text("N T C H W")
    batch_size, size = input_sizes(x, input_layout)
    layers = at_their_positions(
        on_grids(first, batch_size, size),
        first,
        inputs,
        input_layout,
        lambda changed, axes: _trace(model, changed, additional_forward_args, axes),
    )
    if not layers:
        raise ValueError(
            f"No layer of this model gives a grid with {len(size)} spatial axes and several "
            f"positions, for an input of shape {tuple(x.shape)}, or they change elsewhere than "
            "the input does. Pass layers by name, with Layer(..., layout=...) for tokens and other "
            "axes, or Layer(..., reshape=...) for other orders."
        )
    recording = record(
        model,
        tuple(replace(each.layer, name=each.name) for each in layers),
        tuple(tensor.clone() for tensor in tensors),
        additional_forward_args,
        reduction=STATISTICS,
        batch_size=batch_size,
        rank=len(size),
        output=output,
        as_list=isinstance(inputs, list),
    )
    unreached = {id(calls) for calls in recording.backward(_top_scores)}
    scores = tuple(recording.output.shape)
    surveyed = []
    for each, calls in zip(layers, recording.layers, strict=True):
        reached = id(calls) not in unreached
        statistics = statistics_of(calls) if reached else Statistics(reaches_score=False)
        is_output = _is_output(each, statistics, scores)
        surveyed.append(SurveyedLayer(each, statistics, is_output))
    if not any(layer.statistics.reaches_score for layer in surveyed):
        # As of a head whose weights are zero: no gradient tells one layer from another.
        surveyed = [
            replace(
                each,
                is_output=False,
                statistics=Statistics(
                    each.statistics.rectified,
                    activation_cancels=each.statistics.activation_cancels,
                ),
            )
            for each in surveyed
        ]
    rows = _recommended(surveyed)
    chosen = tuple(row.grid_layer.layer for row in rows if row.recommended)
    return LayerChoice(chosen, tuple(rows), input_layout.text if input_layout else None)


def _unwrapped(forward_func: Any) -> Any:
    """The network in DataParallel, DistributedDataParallel or torch.compile."""
    while isinstance(forward_func, nn.Module):
        inner = getattr(forward_func, "_orig_mod", None)
        if isinstance(forward_func, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = forward_func.module
        if not isinstance(inner, nn.Module):
            break
        forward_func = inner
    return forward_func


def own_layers(model: Any) -> tuple[Layer, ...]:
    """The model's own ``LAYERS``: names or layers, in a list, or a dict from labels."""
    own = getattr(model, "LAYERS", ())
    own = own.values() if isinstance(own, Mapping) else own
    if not isinstance(own, Iterable) or isinstance(own, str):
        return ()
    own = list(own)
    if not all(isinstance(layer, (str, Layer, nn.Module)) for layer in own):
        return ()
    return tuple(layer if isinstance(layer, Layer) else Layer(layer) for layer in own)


def _trace(
    model: Any, inputs: Any, additional_forward_args: Any, channel_axes: ChannelAxes | None = None
) -> Trace:
    arguments = format_additional_forward_args(additional_forward_args)
    tensors = tuple(tensor.detach().clone() for tensor in format_inputs(inputs))
    forward = partial(run_model, model, tensors, arguments, isinstance(inputs, list))
    root = model if isinstance(model, nn.Module) else None
    return trace(forward, root, tensors, channel_axes)


def _top_scores(output: Tensor) -> Tensor:
    """The highest score of each sample; of a segmentation, their sum over positions."""
    if output.ndim < 2:
        return output.reshape(len(output) if output.ndim else 1)
    return output.amax(dim=1).reshape(len(output), -1).sum(dim=1)


def _is_output(layer: GridLayer, statistics: Statistics, scores: Shape) -> bool:
    """Whether the layer's channels are the classes: all that comes after is a sum over space."""
    if len(scores) < 2 or layer.channels != scores[1]:
        return False
    if len(scores) > 2:  # of a segmentation, also before it is enlarged
        return layer.channels > 1 or layer.grid == scores[2:]
    return layer.channels > 1 and statistics.uses_one_channel


# ------------------------------------------------------------------------------- recommendation

_FALLBACKS: tuple[tuple[str, ...], ...] = (
    (),
    (CONSTANT,),
    (CONSTANT, CANCELS),
    (CONSTANT, CANCELS, IS_OUTPUT, UNREACHED),
)
"""Defects that a layer may have, if no layer is without."""


def _recommended(surveyed: Sequence[SurveyedLayer]) -> list[SurveyedLayer]:
    """The layers with what is recommended, and why, or why not."""
    paths = [_stages(path) for path in _paths(surveyed)]
    stages = [stage for path in paths for stage in path]
    reasons = {each.order: each.defect for stage in stages for each in stage}
    ends: dict[tuple[int, int | None], str] = {}
    for allowed in _FALLBACKS:
        chosen = [
            (stage, _stage_end(stage, surveyed, path, allowed)) for path in paths for stage in path
        ]
        covered = {_resolution(end) for _, end in chosen if end is not None}
        for stage, end in (*chosen, *_uncovered(covered, stages, surveyed, allowed)):
            if end is not None:
                ends[_key(end)] = _reason(end, stage)
                for each in stage:
                    reasons[each.order] = each.defect or f"{end.name} has the same resolution"
        if ends:
            break
    return [
        replace(
            each,
            on_main_path=each.order in reasons,
            recommended=_key(each) in ends,
            reason=ends.get(_key(each)) or reasons.get(each.order) or each.reason,
        )
        for each in surveyed
    ]


def _key(layer: SurveyedLayer) -> tuple[int, int | None]:
    return layer.order, layer.grid_layer.call.index


def _reason(end: SurveyedLayer, stage: Sequence[SurveyedLayer]) -> str:
    kind = "last layer without negative values" if end.statistics.rectified else "last layer"
    last = stage[-1] if stage else end
    if end.depth == last.depth or last.defect is None:
        return f"{kind} at its resolution"
    return f"{kind} at its resolution to explain: at {last.name}, {last.defect}"


def _paths(surveyed: Sequence[SurveyedLayer]) -> list[list[SurveyedLayer]]:
    """The main path; of a network of several pathways, whose blocks return lists, each of them."""
    by_index: dict[int | None, list[SurveyedLayer]] = {}
    for each in surveyed:
        by_index.setdefault(each.grid_layer.call.index, []).append(each)
    paths = {index: _main_path(layers) for index, layers in by_index.items()}
    # A single resolution is one feature among several, and no pathway.
    pathways = [
        path for index, path in paths.items() if index is not None and len(_stages(path)) > 1
    ]
    return pathways if len(pathways) > 1 else [paths.get(None, [])]


def _main_path(surveyed: Sequence[SurveyedLayer]) -> list[SurveyedLayer]:
    """The layers at the nesting depth at which the resolution changes most often."""
    resolutions: dict[int, set[tuple[int, ...]]] = {}
    for each in surveyed:
        resolutions.setdefault(each.depth, set()).add(_resolution(each))
    depth = max(resolutions, key=lambda d: (len(resolutions[d]), -d), default=None)
    return [each for each in surveyed if each.depth == depth]


def _resolution(layer: SurveyedLayer) -> tuple[int, ...]:
    """Rounded to powers of 2: padding, or its absence, changes a size by little.

    Of the last two axes: a factorised convolution strides over time and space one after the other.
    """
    return tuple(round(log2(n)) for n in layer.grid_layer.grid[-2:])


def _stages(path: Sequence[SurveyedLayer]) -> list[list[SurveyedLayer]]:
    """Consecutive layers of nearly the same resolution."""
    stages: list[list[SurveyedLayer]] = []
    for each in path:
        if not stages or _is_new_stage(each, stages[-1][0]):
            stages.append([])
        stages[-1].append(each)
    return stages


def _is_new_stage(layer: SurveyedLayer, first: SurveyedLayer) -> bool:
    grids = zip(layer.grid_layer.grid, first.grid_layer.grid, strict=True)
    return any(max(m, n) >= _NEW_STAGE * min(m, n) for m, n in grids)


def _stage_end(
    stage: Sequence[SurveyedLayer],
    surveyed: Sequence[SurveyedLayer],
    stages: Sequence[Sequence[SurveyedLayer]],
    allowed: Sequence[str],
) -> SurveyedLayer | None:
    """The last sound layer: on the main path, or inside its layers, outermost first."""
    ends = [each[-1].order for each in stages]
    # A stage may go on inside of the first layer of the next one, as a patch embedding does.
    start = max((end for end in ends if end < stage[0].order), default=0)
    stop = min((end for end in ends if end > stage[-1].order), default=stage[-1].order)
    inside = [
        each
        for each in surveyed
        if start < each.order < stop
        and each.depth > stage[0].depth
        and not _is_new_stage(each, stage[0])
    ]
    return _last_sound([*inside, *stage], allowed, stage[0].depth)


def _uncovered(
    covered: set[tuple[int, ...]],
    stages: Sequence[Sequence[SurveyedLayer]],
    surveyed: Sequence[SurveyedLayer],
    allowed: Sequence[str],
) -> Iterator[tuple[Sequence[SurveyedLayer], SurveyedLayer | None]]:
    """Of resolutions without a layer so far: off the main path, else a single operation on it."""
    for resolution in dict.fromkeys(map(_resolution, surveyed)):
        if resolution in covered:
            continue
        same = [each for each in surveyed if _resolution(each) == resolution]
        on_path = [each for stage in stages for each in stage if _resolution(each) == resolution]
        end = _last_sound(same, allowed, -1)
        if end is None:
            sound = [each for each in on_path if each.defect in (None, *allowed)]
            end = sound[-1] if sound else None
        yield on_path, end


def _last_sound(
    layers: Sequence[SurveyedLayer], allowed: Sequence[str], main_depth: int
) -> SurveyedLayer | None:
    """The last activated layer or block without a defect, preferably at the main depth."""
    main = [each for each in layers if each.depth == main_depth and _is_candidate(each, layers)]
    # Where a normalisation follows the end, the layers before it on the main path are like it.
    goes_inside = bool(main) and main[-1].defect in (CANCELS, UNREACHED)
    for strict in (True, False):
        sound = [
            each
            for each in layers
            if each.defect in (None, *allowed)
            and _is_candidate(each, layers)
            and not (strict and each.statistics.gradient_cancels_over_positions)
        ]
        activated = [each for each in sound if each.is_activated]
        preferred = [activated, sound]
        if not goes_inside:
            preferred.insert(0, [each for each in sound if each.depth == main_depth])
        for group in preferred:
            depth = min((each.depth for each in group), default=None)
            at_depth = [each for each in group if each.depth == depth]
            if at_depth:
                return _earliest_name(_last_activated(at_depth), at_depth)
    return None


def _is_candidate(layer: SurveyedLayer, layers: Sequence[SurveyedLayer]) -> bool:
    """Whether it is activated, or a block with an activation inside: no shortcut."""
    if layer.is_activated or not layer.is_block:
        return layer.is_activated
    inside = [each for each in layers if each.name.startswith(f"{layer.name}.")]
    return not inside or any(each.is_activated for each in inside)


def _earliest_name(layer: SurveyedLayer, layers: Sequence[SurveyedLayer]) -> SurveyedLayer:
    """The first of the layers that returned the same tensor: not a dropout after it."""
    first = layer.grid_layer.call.first_order
    return next(each for each in layers if each.grid_layer.call.first_order == first)


def _last_activated(layers: Sequence[SurveyedLayer]) -> SurveyedLayer:
    """The last layer; among the single operations at the end, the last activated one."""
    for each in reversed(layers):
        if each.is_activated:
            return each
        if each.is_block:
            break
    return layers[-1]
