"""How fast are the contour boxes, and the metric that needs them, beside OpenCV's?

    python studies/benchmark_metrics.py --repeats 21 --output benchmark_metrics.json

times the boxes of all 100 thresholds of several kinds of maps, of the largest contour (V1) and of
all of them (V2), by OpenCV in a loop over thresholds and by ``contour_boxes``; and an update of
MaxBoxAcc, beside one written with OpenCV and NumPy. Both have one thread and take turns, and each
time is that of the process, so that a busy machine disturbs both alike. A difference in a single
box, or in a score, is an error.

Needs the extra ``test``.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from captum_3dcam.metrics import MaxBoxAcc, cam_thresholds, contour_boxes
from timing import machine, quartiles

try:
    import cv2
except ImportError as error:
    raise ImportError(
        "The benchmark compares with OpenCV: pip install captum_3dcam[test] has it."
    ) from error

Image = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]
Box = Sequence[int]
VERSIONS = {"V1": False, "V2": True}  # whether all contours count
DELTAS = {"V1": (0.5,), "V2": (0.3, 0.5, 0.7)}


class Timing(NamedTuple):
    """Seconds of each turn, ours and OpenCV's."""

    opencv: list[float]
    ours: list[float]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = [
        row
        for kind in options.kinds
        for version in VERSIONS
        for row in measure(kind, version, options)
    ]
    report = {
        "machine": machine_and_unit(),
        "size": options.size,
        "repeats": options.repeats,
        "rows": rows,
    }
    print(report["machine"], table(rows), sep="\n\n")
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kinds", nargs="+", choices=MAPS, default=list(MAPS), help="of maps (default: all)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="a map each (default: 0 1 2 3)")
    add("--size", type=int, default=224, help="pixels a side (default: 224)")
    add("--repeats", type=int, default=21, help="turns on each map (default: 21)")
    add("--output", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error("--repeats must be at least 1")
    if options.size < 32:
        parser.error("--size must be at least 32")
    return options


# ------------------------------------------------------------------------------------------- maps


def upsampled(cells: int, size: int, generator: np.random.Generator) -> Map:
    coarse = generator.random((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def blobs(count: int, size: int, generator: np.random.Generator) -> Map:
    """A sum of Gaussians: alone a wide one near the middle, else of all widths and places."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    margin, widths = (0.3, (0.1, 0.25)) if count == 1 else (0.05, (0.04, 0.18))
    total = np.zeros((size, size), dtype=np.float32)
    for _ in range(count):
        (cx, cy), width = generator.uniform(margin, 1 - margin, 2), generator.uniform(*widths)
        total += generator.uniform(0.3, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / width**2)
    return total


def noise(size: int, generator: np.random.Generator) -> Map:
    return generator.random((size, size), dtype=np.float32)


MAPS: dict[str, Callable[[int, np.random.Generator], Map]] = {
    "bilinear from 7x7": lambda size, generator: upsampled(7, size, generator),
    "bilinear from 14x14": lambda size, generator: upsampled(14, size, generator),
    "one Gaussian": lambda size, generator: blobs(1, size, generator),
    "six Gaussians": lambda size, generator: blobs(6, size, generator),
    "noise": noise,
}


# ------------------------------------------------------------------------------------- the OpenCV


def quantized(scoremap: Map) -> tuple[Image, list[int]]:
    """A map in 0, ..., 255, and its different thresholds."""
    shifted = scoremap - scoremap.min()
    image = (shifted / shifted.max() * 255).astype(np.uint8)
    cuts = (np.arange(0, 1, 0.01) * int(image.max())).astype(int)
    return image, np.unique(cuts).tolist()


def opencv_boxes(image: Image, cuts: Iterable[int], multi_contour: bool) -> list[list[Box]]:
    """Of each threshold the boxes (x, y, w, h) of its contours, or that of the largest."""
    boxes = []
    for cut in cuts:
        _, mask = cv2.threshold(image, cut, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours and not multi_contour:
            contours = [max(contours, key=cv2.contourArea)]
        boxes.append([cv2.boundingRect(contour) for contour in contours])
    return boxes


def opencv_correct(scoremap: Map, truth: npt.NDArray[Any], version: str) -> npt.NDArray[Any]:
    """MaxBoxAcc of one map: at each δ and threshold whether the best IoU reaches δ, (D, K)."""
    height, width = scoremap.shape
    limit = np.array([width - 1, height - 1] * 2)
    image, cuts = quantized(scoremap)
    ious = []
    for found in opencv_boxes(image, cuts, VERSIONS[version]):
        x, y, w, h = np.array(found or [(0, 0, 0, 0)]).T
        ious.append(inclusive_iou(np.minimum(np.stack([x, y, x + w, y + h], 1), limit), truth))
    place = np.searchsorted(cuts, (np.arange(0, 1, 0.01) * int(image.max())).astype(int))
    return np.array(ious)[place] >= np.array(DELTAS[version])[:, None]


def inclusive_iou(boxes: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """The best IoU of boxes with one, which hold their last pixel."""
    sides = np.minimum(boxes[:, 2:], truth[2:]) - np.maximum(boxes[:, :2], truth[:2]) + 1
    common = sides.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) + (truth[2:] - truth[:2] + 1).prod()
    return float((common / (areas - common)).max())


# -------------------------------------------------------------------------------------- measuring


def measure(kind: str, version: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for the boxes, and one for the metric, over the maps of all seeds."""
    boxes, metric = Timing([], []), Timing([], [])
    for seed in options.seeds:
        scoremap = MAPS[kind](options.size, np.random.default_rng(seed))
        time_boxes(scoremap, version, options.repeats, boxes)
        time_metric(scoremap, version, options.repeats, metric)
    yield summary("boxes", kind, version, boxes)
    yield summary("MaxBoxAcc", kind, version, metric)


def time_boxes(scoremap: Map, version: str, repeats: int, timing: Timing) -> None:
    image, cuts = quantized(scoremap)
    multi_contour = VERSIONS[version]
    expected = opencv_boxes(image, cuts, multi_contour)
    boxes, index = contour_boxes(image, cuts, multi_contour)
    found = [sorted(map(tuple, boxes[index == k].tolist())) for k in range(len(cuts))]
    if found != [sorted((x, y, x + w, y + h) for x, y, w, h in some) for some in expected]:
        raise AssertionError(f"The boxes of {version} are not those of OpenCV.")
    take_turns(
        lambda: opencv_boxes(image, cuts, multi_contour),
        lambda: contour_boxes(image, cuts, multi_contour),
        repeats,
        timing,
    )


def time_metric(scoremap: Map, version: str, repeats: int, timing: Timing) -> None:
    """With the middle half of the map for the truth."""
    size = len(scoremap)
    truth = np.array([size // 4, size // 4, 3 * size // 4, 3 * size // 4])
    maps, boxes = torch.from_numpy(scoremap)[None], [torch.from_numpy(truth)[None]]

    metric = MaxBoxAcc(iou_thresholds=DELTAS[version], multi_contour=VERSIONS[version])
    metric.update(maps, boxes)
    score = float(metric.compute()["max_box_acc"])
    expected = float(opencv_correct(scoremap, truth, version).max(axis=1).mean())
    if abs(score - expected) > 1e-6:
        raise AssertionError(f"MaxBoxAcc {version} is {score}, and with OpenCV {expected}.")
    take_turns(
        lambda: opencv_correct(scoremap, truth, version),
        lambda: metric.update(maps, boxes),
        repeats,
        timing,
    )


def take_turns(
    theirs: Callable[[], Any], ours: Callable[[], Any], repeats: int, timing: Timing
) -> None:
    for _ in range(repeats):
        for run, seconds in zip((theirs, ours), timing, strict=True):
            start = process_time()
            run()
            seconds.append(process_time() - start)


# ---------------------------------------------------------------------------------------- showing


def summary(what: str, kind: str, version: str, timing: Timing) -> dict[str, Any]:
    """Quartiles of the milliseconds of each, and of the ratio of each two that took turns."""
    opencv, ours = 1000 * np.array(timing.opencv), 1000 * np.array(timing.ours)
    return {
        "what": what,
        "map": kind,
        "version": version,
        "opencv_ms": rounded(opencv),
        "ours_ms": rounded(ours),
        "ratio": rounded(ours / opencv),
    }


def rounded(values: npt.NDArray[np.float64]) -> list[float]:
    return [round(value, 3) for value in quartiles(values.tolist())]


def table(rows: Iterable[dict[str, Any]]) -> str:
    lines = [
        "| What | Map | Version | OpenCV, ms | Ours, ms | Ours / OpenCV |",
        "|---|---|---|--:|--:|--:|",
    ]
    for row in rows:
        cells = [row["what"], row["map"], row["version"]]
        for key in ("opencv_ms", "ours_ms", "ratio"):
            low, middle, high = row[key]
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine_and_unit() -> str:
    return (
        f"{machine()}, numpy {np.__version__}, cv2 {cv2.__version__}. "
        f"{len(cam_thresholds())} thresholds; median (quartiles) of the process time."
    )


if __name__ == "__main__":
    main()
