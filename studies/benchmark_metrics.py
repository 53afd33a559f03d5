"""How fast are the contour boxes, and the metric that needs them, beside OpenCV's?

    python studies/benchmark_metrics.py --repeats 21 --output out/benchmark

times the boxes of all 100 thresholds of several kinds of maps, of the largest contour (V1) and of
all contours (V2), by OpenCV in a loop over thresholds and by ``contour_boxes``; and an update of
MaxBoxAcc, beside one written with OpenCV and NumPy. Both have one thread and take turns, and each
time is that of the process, so that a busy machine slows both alike. A difference in a single box,
or in a score, is an error.

Needs the extra ``test``.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _arguments import at_least, make_parser
from _report import table, write_report
from _timing import Quartiles, machine, quartiles, ratios, take_turns
from captum_3dcam.metrics import MaxBoxAcc, cam_thresholds, contour_boxes

try:
    import cv2
except ImportError as error:
    raise ImportError(
        "The benchmark compares with OpenCV: pip install captum_3dcam[test] has it."
    ) from error

Image = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]
Box = Sequence[int]
Seconds = dict[str, list[float]]
"""Of each turn, of "OpenCV" and of "ours"."""

VERSIONS = {"V1": False, "V2": True}  # whether all contours count
DELTAS = {"V1": (0.5,), "V2": (0.3, 0.5, 0.7)}
HEADER = ["What", "Map", "Version", "OpenCV, ms", "Ours, ms", "Ours / OpenCV"]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    setup = (
        f"{machine()}, numpy {np.__version__}, cv2 {cv2.__version__}. {len(cam_thresholds())} "
        "thresholds; median (quartiles) of the process time."
    )
    rows = [
        row
        for kind in options.kinds
        for version in VERSIONS
        for row in measure(kind, version, options)
    ]
    report = {"machine": setup, "size": options.size, "repeats": options.repeats, "rows": rows}
    text = table(
        HEADER, [[*list(row.values())[:3], *map(cell, list(row.values())[3:])] for row in rows]
    )
    write_report(options.output, "metrics_beside_opencv", report, f"{setup}\n\n{text}")
    return report


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--kinds", nargs="+", choices=MAPS, default=list(MAPS), help="of maps (default: all)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3], help="a map each (default: 0 1 2 3)")
    add("--size", type=at_least(32), default=224, help="pixels a side (default: 224)")
    add("--repeats", type=at_least(1), default=21, help="turns on each map (default: 21)")
    add("--output", type=Path, default=Path("out/benchmark"), help="folder to write to")
    return parser.parse_args(arguments)


# ------------------------------------------------------------------------------------------- maps


def upsampled(cells: int, size: int, generator: np.random.Generator) -> Map:
    coarse = generator.random((cells, cells), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def blobs(count: int, size: int, generator: np.random.Generator) -> Map:
    """A sum of Gaussians of random widths and centres; a single one is wide and near the middle."""
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


# ----------------------------------------------------------------------------------------- OpenCV


def quantized(scoremap: Map) -> tuple[Image, list[int]]:
    """A map in 0, ..., 255, and its distinct thresholds."""
    shifted = scoremap - scoremap.min()
    image = (shifted / shifted.max() * 255).astype(np.uint8)
    thresholds = (np.arange(0, 1, 0.01) * int(image.max())).astype(int)
    return image, np.unique(thresholds).tolist()


def opencv_boxes(image: Image, thresholds: Iterable[int], multi_contour: bool) -> list[list[Box]]:
    """For each threshold the boxes (x, y, w, h) of its contours, or that of the largest one."""
    boxes = []
    for threshold in thresholds:
        _, mask = cv2.threshold(image, threshold, 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if contours and not multi_contour:
            contours = [max(contours, key=cv2.contourArea)]
        boxes.append([cv2.boundingRect(contour) for contour in contours])
    return boxes


def opencv_correct(scoremap: Map, box: npt.NDArray[Any], version: str) -> npt.NDArray[Any]:
    """MaxBoxAcc of one map: whether the best IoU reaches δ, for each δ and threshold, (D, K)."""
    height, width = scoremap.shape
    limit = np.array([width - 1, height - 1] * 2)
    image, thresholds = quantized(scoremap)
    ious = []
    for contours in opencv_boxes(image, thresholds, VERSIONS[version]):
        x, y, w, h = np.array(contours or [(0, 0, 0, 0)]).T
        ious.append(inclusive_iou(np.minimum(np.stack([x, y, x + w, y + h], 1), limit), box))
    all_thresholds = (np.arange(0, 1, 0.01) * int(image.max())).astype(int)
    index = np.searchsorted(thresholds, all_thresholds)
    return np.array(ious)[index] >= np.array(DELTAS[version])[:, None]


def inclusive_iou(boxes: npt.NDArray[Any], box: npt.NDArray[Any]) -> float:
    """The best IoU of boxes with one; a box includes its last pixel."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
    common = sides.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) + (box[2:] - box[:2] + 1).prod()
    return float((common / (areas - common)).max())


# -------------------------------------------------------------------------------------- measuring


def measure(kind: str, version: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for the boxes, and one for the metric, over the maps of all seeds."""
    for name, time in (("boxes", time_boxes), ("MaxBoxAcc", time_metric)):
        seconds: Seconds = defaultdict(list)
        for seed in options.seeds:
            scoremap = MAPS[kind](options.size, np.random.default_rng(seed))
            for package, values in time(scoremap, version, options.repeats).items():
                seconds[package] += values
        yield {"what": name, "map": kind, "version": version, **summarize(seconds)}


def time_boxes(scoremap: Map, version: str, repeats: int) -> Seconds:
    image, thresholds = quantized(scoremap)
    multi_contour = VERSIONS[version]
    expected = opencv_boxes(image, thresholds, multi_contour)
    boxes, index = contour_boxes(image, thresholds, multi_contour)
    ours = [sorted(map(tuple, boxes[index == k].tolist())) for k in range(len(thresholds))]
    if ours != [sorted((x, y, x + w, y + h) for x, y, w, h in some) for some in expected]:
        raise AssertionError(f"The boxes of {version} differ from those of OpenCV.")
    runs = {
        "OpenCV": lambda: opencv_boxes(image, thresholds, multi_contour),
        "ours": lambda: contour_boxes(image, thresholds, multi_contour),
    }
    return take_turns(runs, repeats, clock=process_time)


def time_metric(scoremap: Map, version: str, repeats: int) -> Seconds:
    """With the middle of the map, half as high and wide, as the ground truth."""
    size = len(scoremap)
    box = np.array([size // 4, size // 4, 3 * size // 4, 3 * size // 4])
    maps, boxes = torch.from_numpy(scoremap)[None], [torch.from_numpy(box)[None]]

    metric = MaxBoxAcc(iou_thresholds=DELTAS[version], multi_contour=VERSIONS[version])
    metric.update(maps, boxes)
    score = float(metric.compute()["max_box_acc"])
    expected = float(opencv_correct(scoremap, box, version).max(axis=1).mean())
    if abs(score - expected) > 1e-6:
        raise AssertionError(f"MaxBoxAcc {version} is {score}, and with OpenCV {expected}.")
    runs = {
        "OpenCV": lambda: opencv_correct(scoremap, box, version),
        "ours": lambda: metric.update(maps, boxes),
    }
    return take_turns(runs, repeats, clock=process_time)


def summarize(seconds: Mapping[str, Sequence[float]]) -> dict[str, Quartiles]:
    """Quartiles of the milliseconds of each, and of the ratio in each round."""

    def rounded(values: Iterable[float]) -> Quartiles:
        return Quartiles(*(round(value, 3) for value in values))

    return {
        "opencv_ms": rounded(quartiles([1000 * value for value in seconds["OpenCV"]])),
        "ours_ms": rounded(quartiles([1000 * value for value in seconds["ours"]])),
        "ratio": rounded(ratios(seconds["ours"], seconds["OpenCV"])),
    }


def cell(quartiles: Quartiles) -> str:
    low, median, high = quartiles
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
