"""Write THUMOS14 and MultiTHUMOS to disk as they are published, with small videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from datasets_on_disk import write_video

Instances = Mapping[str, Sequence[tuple[str, float, float]]]
"""For each class (video, start, end) in seconds."""

THUMOS: dict[str, list[tuple[str, float, float]]] = {
    "Diving": [
        ("video_test_0000006", 1.0, 2.0),
        ("video_test_0000006", 3.2, 4.4),
        ("video_test_0000011", 0.4, 1.6),
    ],
    "CliffDiving": [("video_test_0000006", 1.0, 2.0)],
    "Ambiguous": [("video_test_0000006", 5.0, 5.6), ("video_test_0001292", 0.0, 1.0)],
}
MULTI: dict[str, list[tuple[str, float, float]]] = {
    "Diving": [("video_test_0000006", 1.0, 2.0), ("video_validation_0000051", 0.5, 0.7)],
    "Run": [("video_test_0000006", 0.5, 1.5), ("video_test_0000011", 0.0, 2.0)],
    "Jump": [("video_test_0000006", 1.2, 1.4)],
}


def write_thumos(root: Path, instances: Instances = THUMOS, subset: str = "test") -> None:
    """A file for each class, with two spaces after the video, as in the published ones."""
    folder = root / "annotation"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in instances.items():
        lines = [f"{video}  {start:.1f} {end:.1f}\n" for video, start, end in rows]
        (folder / f"{name}_{subset}.txt").write_text("".join(lines))


def write_multithumos(root: Path, instances: Instances = MULTI) -> None:
    """The list of classes, and a file for each class with the videos of both subsets."""
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{number} {name}\n" for number, name in enumerate(instances, start=1)]
    (root / "class_list.txt").write_text("".join(lines))
    for name, rows in instances.items():
        (folder / f"{name}.txt").write_text("".join(f"{v} {s:.1f} {e:.1f}\n" for v, s, e in rows))


def write_lit_video(
    path: Path, lit: Sequence[tuple[int, float, float]], seconds: float, fps: int = 20
) -> None:
    """A grey video of 24 x 32 pixels whose channel c is bright from start to end.

    Colours survive only a lossless file: the suffix is .mkv.
    """
    frames = np.full((round(seconds * fps), 24, 32, 3), 60, np.uint8)
    for channel, start, end in lit:
        frames[round(start * fps) : round(end * fps), 6:18, 8:24, channel] = 240
    write_video(path, frames, fps)
