"""Tiny UCF101-24 and ILSVRC datasets, in each one's own format on disk, and the truth in them."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from disk import write_picture, write_pictures
from numpy.typing import NDArray

UCF24_CLASSES = ("Basketball", "BasketballDunk", "Biking", "CliffDiving")
SYNSETS = ("n01440764", "n01443537", "n01484850")


class WrittenVideo(NamedTuple):
    """One video of UCF101-24 as it was written."""

    name: str
    label: int
    pictures: NDArray[np.uint8]
    """(T, H, W, 3), before they were compressed: the actors' boxes are filled with one colour."""
    tubes: list[tuple[int, NDArray[np.float64]]]
    """The first frame, and the boxes (L, 4): x0, y0, x1, y1, inclusive-exclusive."""

    def boxes(self) -> NDArray[np.float64]:
        """(A, T, 4), nan where there is none."""
        found = np.full((len(self.tubes), len(self.pictures), 4), np.nan)
        for number, (start, boxes) in enumerate(self.tubes):
            for offset, box in enumerate(boxes):
                found[number, start + offset] = box
        return found


class WrittenImage(NamedTuple):
    """One picture of ILSVRC as it was written."""

    image_id: str
    label: int
    picture: NDArray[np.uint8]
    """(H, W, 3), before it was compressed: the objects' boxes are filled with one colour."""
    boxes: NDArray[np.float64]
    """(B, 4): x0, y0, x1, y1, inclusive-exclusive."""


# ---------------------------------------------------------------------------------- UCF101-24


def write_ucf24(
    root: Path,
    *,
    test: int = 3,
    train: int = 2,
    frames: int = 20,
    size: tuple[int, int] = (24, 32),
    seed: int = 0,
) -> dict[str, list[WrittenVideo]]:
    """Videos "test" and "train", of ``frames`` frames and one or two actors each.

    The first actor is there all the time, the second one for a while in the middle. The boxes are
    bytes in the videos of even number, and 16 bits wide in the others.
    """
    rng = np.random.default_rng(seed)
    videos = [_ucf24_video(number, frames, size, rng) for number in range(test + train)]
    for video in videos:
        write_pictures(root / "rgb-images" / video.name, video.pictures, "{:05d}.jpg")
    write_pyannot(root / "pyannot.pkl", [ucf24_record(v, n) for n, v in enumerate(videos)])
    written = {"test": videos[:test], "train": videos[test:]}
    for subset, part in written.items():
        names = "\n".join(video.name for video in part)
        (root / f"{subset}list01.txt").write_text(names + "\n", encoding="utf-8")
    return written


def write_pyannot(path: Path, records: Sequence[tuple[str, dict]], protocol: int = 3) -> None:
    """The annotations of videos, with NumPy's text for keys as in the real file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({np.str_(k): v for k, v in records}, protocol=protocol))


def ucf24_record(video: WrittenVideo, number: int) -> tuple[str, dict]:
    """The video's name and its annotation in the terms of ``pyannot.pkl``."""
    stored = np.uint16 if number % 2 else np.uint8
    tubes = []
    for start, boxes in video.tubes:
        xywh = np.concatenate([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]], axis=1)
        tube = {"label": video.label, "sf": start, "ef": start + len(boxes)}
        tubes.append(tube | {"boxes": xywh.astype(stored)})
    frames = np.uint8(len(video.pictures)) if len(video.pictures) < 256 else len(video.pictures)
    return video.name, {"numf": frames, "label": video.label, "annotations": tubes}


def _ucf24_video(
    number: int, frames: int, size: tuple[int, int], rng: np.random.Generator
) -> WrittenVideo:
    label = number % len(UCF24_CLASSES)
    name = f"{UCF24_CLASSES[label]}/v_{UCF24_CLASSES[label]}_g{number + 1:02d}_c01"
    pictures = np.full((frames, *size, 3), 40, dtype=np.uint8)
    pictures += np.arange(frames, dtype=np.uint8)[:, None, None, None] * 2  # each one is another
    spans = [(0, frames), (frames // 4, 3 * frames // 4)][: 1 + number % 2]
    tubes = []
    for start, stop in spans:
        boxes = _drift(stop - start, size, rng)
        tubes.append((start, boxes))
        for picture, box in zip(pictures[start:stop], boxes.astype(int), strict=True):
            _fill(picture, box, colour=200)
    return WrittenVideo(name, label, pictures, tubes)


def _drift(frames: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A box that moves from one place to another; it may touch the frame's edges."""
    height, width = size
    extent = np.array([rng.integers(4, width // 2), rng.integers(4, height // 2)])
    places = rng.integers(0, np.array([width, height]) - extent, size=(2, 2), endpoint=True)
    corners = np.linspace(*places, frames).round()
    return np.concatenate([corners, corners + extent], axis=1)


# ------------------------------------------------------------------------------------- ILSVRC


def write_ilsvrc_text(
    root: Path, *, images: int = 4, size: tuple[int, int] = (24, 32), seed: int = 0
) -> list[WrittenImage]:
    """Pictures of one or two objects of three classes, and the four text files."""
    written = _ilsvrc_images(images, size, seed)
    written = [one._replace(image_id=f"val/{one.image_id}.JPEG") for one in written]
    for one in written:
        write_picture(root / one.image_id, one.picture)
    rows: dict[str, list[str]] = {
        "image_ids": [one.image_id for one in written],
        "class_labels": [f"{one.image_id},{one.label}" for one in written],
        "image_sizes": [f"{one.image_id},{size[1]},{size[0]}" for one in written],
        "localization": [
            ",".join([one.image_id, *(str(side) for side in _inclusive(box))])
            for one in written
            for box in one.boxes
        ],
    }
    for name, lines in rows.items():
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return written


def write_ilsvrc_voc(
    root: Path, *, images: int = 4, size: tuple[int, int] = (24, 32), seed: int = 0
) -> list[WrittenImage]:
    """The same pictures and objects with XML files, and the list of synsets."""
    written = _ilsvrc_images(images, size, seed)
    folder = root / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True, exist_ok=True)
    for one in written:
        write_picture(root / "Data" / "CLS-LOC" / "val" / f"{one.image_id}.JPEG", one.picture)
        (folder / f"{one.image_id}.xml").write_text(voc_xml(one), encoding="utf-8")
    lines = [f"{synset} class {label}, its other name" for label, synset in enumerate(SYNSETS)]
    # The labels are the order of the synsets, wherever they stand.
    text = "\n".join(reversed(lines)) + "\n"
    (root / "LOC_synset_mapping.txt").write_text(text, encoding="utf-8")
    return written


def voc_xml(image: WrittenImage) -> str:
    """The XML file of one picture."""
    height, width = image.picture.shape[:2]
    objects = "".join(
        f"<object><name>{SYNSETS[image.label]}</name><pose>Unspecified</pose><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>"
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), _inclusive(box), strict=True)
        )
        + "</bndbox></object>\n"
        for box in image.boxes
    )
    return (
        f"<annotation>\n<folder>val</folder><filename>{image.image_id}</filename>\n"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"{objects}</annotation>\n"
    )


def _ilsvrc_images(images: int, size: tuple[int, int], seed: int) -> list[WrittenImage]:
    rng = np.random.default_rng(seed)
    written = []
    for number in range(images):
        picture = np.full((*size, 3), 40 + 5 * number, dtype=np.uint8)
        boxes = np.concatenate([_drift(1, size, rng) for _ in range(1 + number % 2)])
        for box in boxes.astype(int):
            _fill(picture, box, colour=200)
        image_id = f"ILSVRC2012_val_{number + 1:08d}"
        written.append(WrittenImage(image_id, number % len(SYNSETS), picture, boxes))
    return written


def _inclusive(box: NDArray[np.float64]) -> list[int]:
    x0, y0, x1, y1 = box.astype(int).tolist()
    return [x0, y0, x1 - 1, y1 - 1]


# ----------------------------------------------------------------------------------- pictures


def _fill(picture: NDArray[np.uint8], box: NDArray[np.int_], colour: int) -> None:
    x0, y0, x1, y1 = box
    picture[y0:y1, x0:x1] = colour
