"""What the viewer shows of an explanation."""

from typing import Any

import numpy as np
from torch import Tensor

from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._figures import every_nth
from captum_3dcam.explanation._video import every_nth_frame
from captum_3dcam.explanation.viewer import (
    MAX_FRAMES,
    ImageContent,
    Regions,
    VideoContent,
    ViewerClass,
    ViewerContent,
    ViewerMap,
    VolumeContent,
)
from captum_3dcam.localization import Boxes
from captum_3dcam.visualization import Scan

_WEIGHTED = " times the probability of the class in each window"
_MAX_REGIONS = 5  # the best of a map; the report lists the others


def viewer_content(explanation: Explanation, warnings: bool = True) -> ViewerContent:
    """The content of the viewer for one sample; its warnings too, unless a report has them."""
    step = _step(explanation)
    ranks = range(explanation.attribution.shape[1])
    classes = zip(
        explanation.class_names[0],
        explanation.scores[0].tolist(),
        explanation.probabilities[0].tolist(),
        strict=True,
    )
    return ViewerContent(
        title=", ".join(explanation.class_names[0]),
        original=_original(explanation, step),
        classes=[ViewerClass(*each) for each in classes],
        maps=_maps(explanation, step),
        regions=[_regions(explanation, rank, step) for rank in ranks],
        warnings=explanation.warnings if warnings else (),
    )


def _step(explanation: Explanation) -> int:
    """Of the frames of a video, every so many are shown."""
    if explanation.kind != "video":
        return 1
    return -(-explanation.attribution.shape[2] // MAX_FRAMES)


def _maps(explanation: Explanation, step: int) -> list[ViewerMap]:
    def values(maps: Tensor) -> Any:
        shown = maps[0, :, ::step] if explanation.kind == "video" else maps[0]
        return np.maximum(shown.float().numpy(), 0)

    # Maps that were added, as Captum's, are not of windows.
    of_windows = {
        explanation.method,
        *explanation.layer_maps,
        *(explanation.settings.get("compare") or ()),
    }

    def meaning(name: str) -> str:
        is_weighted = explanation.windows and explanation.windows[0][0] and name in of_windows
        return f"attribution{_WEIGHTED if is_weighted else ''}"

    def make(name: str, group: str, maps: Tensor) -> ViewerMap:
        return ViewerMap(name, group, values(maps), meaning(name))

    maps = [make(explanation.method, "method", explanation.attribution)]
    for name, each in explanation.method_maps.items():
        group = "counterfactual" if name.startswith("Counterfactual") else "method"
        maps.append(make(name, group, each))
    layers = explanation.layer_maps.items()
    return [*maps, *(make(name, "layer", each) for name, each in layers)]


def _original(explanation: Explanation, step: int) -> Any:
    (original,) = explanation.originals
    size = explanation.size
    if explanation.kind == "image":
        return ImageContent(np.zeros((*size, 3), np.uint8) if original is None else original)
    if explanation.kind == "volume":
        scan = Scan(np.zeros(size, np.uint8)) if original is None else original
        return VolumeContent(scan, explanation.facts.get("window"))
    times = explanation.times
    assert times is not None, "a video has times"
    shown = range(0, len(times), step)
    if original is None:
        frames = np.zeros((len(shown), 2, 2 * size[1] // size[0] or 1, 3), np.uint8)
    else:
        frames = every_nth_frame(original, step)
    note = None if step == 1 else f"one in {step} of {len(times)} frames"
    return VideoContent(frames, times.take(shown), note, (size[0], size[1]), step)


def _regions(explanation: Explanation, rank: int, step: int) -> Regions:
    if explanation.kind != "video":
        boxes, scores = explanation.boxes(rank)
        return Regions(boxes=[Boxes(boxes[:_MAX_REGIONS], scores[:_MAX_REGIONS])])
    return Regions(
        tubes=every_nth(step, explanation.tubes(rank))[:_MAX_REGIONS],
        segments=every_nth(step, explanation.segments(rank)),
    )
