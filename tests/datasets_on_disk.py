"""Write tiny datasets to disk, in the formats of the published ones, and return their content."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

SIZE = (24, 32)
# Some of the published names have such characters.
ODD_NAME = "#20_a_[b]_(c)&'d'_f_cm_np1"
UCF24_CLASSES = ("Basketball", "BasketballDunk", "Biking", "CliffDiving")
SYNSETS = ("n01440764", "n01443537", "n01484850")


class WrittenVideo(NamedTuple):
    """A video of UCF101 or HMDB51."""

    name: str
    """<class>/<video>."""
    label: int
    pixels: np.ndarray
    """(T, H, W, 3) bytes."""
    subsets: tuple[str, str, str]
    """train or test, or unused, in splits 1 to 3."""


class WrittenPerson(NamedTuple):
    """A video of JHMDB."""

    name: str
    label: int
    pixels: np.ndarray
    subsets: tuple[str, str, str]
    joints: np.ndarray
    """(T, 15, 2), x and y from 1 on; some outside of the frame."""
    masks: np.ndarray
    """(T', H, W), bool, T' <= T."""


class WrittenTubes(NamedTuple):
    """A video of UCF101-24."""

    name: str
    label: int
    pixels: NDArray[np.uint8]
    """(T, H, W, 3), before compression; the actors' boxes are filled with one colour."""
    tubes: list[tuple[int, NDArray[np.float64]]]
    """The first frame, and the boxes (L, 4): x0, y0, x1, y1, inclusive-exclusive."""

    def boxes(self) -> NDArray[np.float64]:
        """(A, T, 4), nan where there is none."""
        array = np.full((len(self.tubes), len(self.pixels), 4), np.nan)
        for number, (start, boxes) in enumerate(self.tubes):
            for offset, box in enumerate(boxes):
                array[number, start + offset] = box
        return array


class WrittenImage(NamedTuple):
    """An image of ILSVRC."""

    image_id: str
    label: int
    pixels: NDArray[np.uint8]
    """(H, W, 3), before compression; the objects' boxes are filled with one colour."""
    boxes: NDArray[np.float64]
    """(B, 4): x0, y0, x1, y1, inclusive-exclusive."""


# ------------------------------------------------------------------------------------- images


def random_pixels(frames: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) bytes, all frames different."""
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) bytes as PNG or JPEG, by the path's suffix; create the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_images(folder: Path, pixels: np.ndarray, name: str = "{:05d}.png") -> None:
    """Write (T, H, W, 3) bytes as images numbered from 1."""
    for number, frame in enumerate(pixels, start=1):
        write_image(folder / name.format(number), frame)


def write_video(path: Path, pixels: np.ndarray, fps: int = 25) -> None:
    """Write (T, H, W, 3) bytes as a lossless video file. Needs PyAV."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], "bgr0"
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


# ----------------------------------------------------------------- JHMDB, UCF101 and HMDB51


def write_jhmdb(
    root: Path,
    lengths: Mapping[str, Sequence[int]] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> list[WrittenPerson]:
    """Write JHMDB with videos of these lengths in each class, by default three and one.

    In split 1 the videos of a class alternate between test and training. Of every three videos
    the second has a mask that ends 2 frames early, and the third has an empty one.
    """
    written = []
    lengths = {"golf": (20, 5, 16), "catch": (7,)} if lengths is None else lengths
    rng = np.random.default_rng(seed)
    for label, name in enumerate(sorted(lengths)):
        for number, frames in enumerate(lengths[name]):
            video = f"{name}/{ODD_NAME}_{name}_{number}"
            masks = _person_masks(frames - 2 * (number % 3 == 1), size, rng)
            written.append(
                WrittenPerson(
                    video,
                    label,
                    random_pixels(frames, size, seed=int(rng.integers(2**31))),
                    _alternate(number),
                    rng.uniform(-0.2, 1.2, (frames, 15, 2)) * size[::-1] + 1,
                    masks[:0] if number % 3 == 2 else masks,
                )
            )
    for person in written:
        write_person(root, person)
    _write_class_splits(root / "splits", written)
    return written


def write_person(root: Path, person: WrittenPerson) -> None:
    """Write the images, joints and masks of one video of JHMDB, without its line in the splits."""
    write_images(root / "Rename_Images" / person.name, person.pixels)
    joints = root / "joint_positions" / person.name / "joint_positions.mat"
    masks = root / "puppet_mask" / person.name / "puppet_mask.mat"
    for path in (joints, masks):
        path.parent.mkdir(parents=True, exist_ok=True)
    pos_img = person.joints.transpose(2, 1, 0)
    others = {"pos_world": pos_img / 320 - 0.5, "scale": np.ones((1, 3)), "viewpoint": "N"}
    savemat(joints, others | {"pos_img": pos_img})
    part_mask = person.masks.transpose(1, 2, 0).astype(np.uint8) if len(person.masks) else []
    savemat(masks, {"part_mask": part_mask}, do_compression=True)


def write_ucf101(
    root: Path,
    lengths: Mapping[str, Sequence[int]] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> list[WrittenVideo]:
    """Write UCF101 as folders of images, by default with classes of three videos and one.

    In split 1 the videos of a class alternate between test and training.
    """
    lengths = {"YoYo": (20, 5, 16), "Archery": (7,)} if lengths is None else lengths
    written = _write_videos(root, lengths, "{name}/v_{name}_g{number:02d}_c01", size, seed)
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True, exist_ok=True)
    classes = enumerate(sorted(lengths), start=1)
    (lists / "classInd.txt").write_text("".join(f"{i} {name}\r\n" for i, name in classes))
    for split in range(3):
        for subset in ("train", "test"):
            videos = [video for video in written if video.subsets[split] == subset]
            labels = ["" if subset == "test" else f" {video.label + 1}" for video in videos]
            lines = [f"{v.name}.avi{label}\r\n" for v, label in zip(videos, labels, strict=True)]
            (lists / f"{subset}list{split + 1:02d}.txt").write_text("".join(lines))
    return written


def write_hmdb51(
    root: Path,
    lengths: Mapping[str, Sequence[int]] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> list[WrittenVideo]:
    """Write HMDB51 as folders of images, by default with classes of three videos and one.

    In split 1 the videos of a class alternate between test and training; in split 3 every fourth
    one is unused.
    """
    lengths = {"wave": (20, 5, 16), "chew": (7,)} if lengths is None else lengths
    written = _write_videos(root, lengths, f"{{name}}/{ODD_NAME}_{{number}}", size, seed)
    used = [
        video._replace(subsets=(*video.subsets[:2], "unused")) if i % 4 == 3 else video
        for i, video in enumerate(written)
    ]
    _write_class_splits(root / "testTrainMulti_7030_splits", used)
    return used


def _write_videos(
    root: Path, lengths: Mapping[str, Sequence[int]], form: str, size: tuple[int, int], seed: int
) -> list[WrittenVideo]:
    written = []
    for label, name in enumerate(sorted(lengths)):
        for number, frames in enumerate(lengths[name]):
            pixels = random_pixels(frames, size, seed=1000 * seed + 10 * number + label)
            video = form.format(name=name, number=number)
            write_images(root / video, pixels)
            written.append(WrittenVideo(video, label, pixels, _alternate(number)))
    return written


def _alternate(number: int) -> tuple[str, str, str]:
    first, second = ("test", "train") if number % 2 == 0 else ("train", "test")
    return first, second, first


def _write_class_splits(folder: Path, videos: Sequence[WrittenVideo | WrittenPerson]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    codes = {"unused": 0, "train": 1, "test": 2}
    for split in range(3):
        lines: dict[str, str] = {}
        for video in videos:
            name, file = video.name.split("/")
            line = f"{file}.avi {codes[video.subsets[split]]} \n"
            lines[name] = lines.get(name, "") + line
        for name, text in lines.items():
            (folder / f"{name}_test_split{split + 1}.txt").write_text(text)


def _person_masks(frames: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A block with ragged edges in each frame."""
    masks = np.zeros((frames, *size), dtype=bool)
    for mask in masks:
        top, left = rng.integers(0, size[0] - 4), rng.integers(0, size[1] - 4)
        block = mask[top : rng.integers(top + 3, size[0] + 1), left : left + rng.integers(3, 12)]
        block[:] = rng.uniform(size=block.shape) < 0.7
        block[len(block) // 2] = True
    return masks


# ---------------------------------------------------------------------------------- UCF101-24


def write_ucf24(
    root: Path,
    *,
    test: int = 3,
    train: int = 2,
    frames: int = 20,
    size: tuple[int, int] = (24, 32),
    seed: int = 0,
) -> dict[str, list[WrittenTubes]]:
    """Write videos "test" and "train", of ``frames`` frames and one or two actors each.

    The first actor is visible in all frames, the second one in the middle. The boxes are uint8 in
    videos with an even number, and uint16 in the others.
    """
    rng = np.random.default_rng(seed)
    videos = [_ucf24_video(number, frames, size, rng) for number in range(test + train)]
    for video in videos:
        write_images(root / "rgb-images" / video.name, video.pixels, "{:05d}.jpg")
    write_pyannot(root / "pyannot.pkl", [ucf24_record(v, n) for n, v in enumerate(videos)])
    written = {"test": videos[:test], "train": videos[test:]}
    for subset, part in written.items():
        names = "\n".join(video.name for video in part)
        (root / f"{subset}list01.txt").write_text(names + "\n", encoding="utf-8")
    return written


def write_pyannot(path: Path, records: Sequence[tuple[str, dict]], protocol: int = 3) -> None:
    """Write the annotations of videos, with NumPy text as keys, like the real file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({np.str_(k): v for k, v in records}, protocol=protocol))


def ucf24_record(video: WrittenTubes, number: int) -> tuple[str, dict]:
    """The name of the video and its annotation in ``pyannot.pkl``."""
    stored = np.uint16 if number % 2 else np.uint8
    tubes = []
    for start, boxes in video.tubes:
        xywh = np.concatenate([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2]], axis=1)
        tube = {"label": video.label, "sf": start, "ef": start + len(boxes)}
        tubes.append(tube | {"boxes": xywh.astype(stored)})
    frames = np.uint8(len(video.pixels)) if len(video.pixels) < 256 else len(video.pixels)
    return video.name, {"numf": frames, "label": video.label, "annotations": tubes}


def _ucf24_video(
    number: int, frames: int, size: tuple[int, int], rng: np.random.Generator
) -> WrittenTubes:
    label = number % len(UCF24_CLASSES)
    name = f"{UCF24_CLASSES[label]}/v_{UCF24_CLASSES[label]}_g{number + 1:02d}_c01"
    pixels = np.full((frames, *size, 3), 40, dtype=np.uint8)
    pixels += np.arange(frames, dtype=np.uint8)[:, None, None, None] * 2  # all are different
    spans = [(0, frames), (frames // 4, 3 * frames // 4)][: 1 + number % 2]
    tubes = []
    for start, stop in spans:
        boxes = _drift(stop - start, size, rng)
        tubes.append((start, boxes))
        for frame, box in zip(pixels[start:stop], boxes.astype(int), strict=True):
            _fill(frame, box, colour=200)
    return WrittenTubes(name, label, pixels, tubes)


def _drift(frames: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """A box that moves from one position to another; it may touch the frame's edges."""
    height, width = size
    extent = np.array([rng.integers(4, width // 2), rng.integers(4, height // 2)])
    positions = rng.integers(0, np.array([width, height]) - extent, size=(2, 2), endpoint=True)
    corners = np.linspace(*positions, frames).round()
    return np.concatenate([corners, corners + extent], axis=1)


# ------------------------------------------------------------------------------------- ILSVRC


def write_ilsvrc_text(
    root: Path, *, images: int = 4, size: tuple[int, int] = (24, 32), seed: int = 0
) -> list[WrittenImage]:
    """Write images with one or two objects of three classes, and the four text files."""
    written = _ilsvrc_images(images, size, seed)
    written = [one._replace(image_id=f"val/{one.image_id}.JPEG") for one in written]
    for one in written:
        write_image(root / one.image_id, one.pixels)
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
    """Write the same images and objects with XML files, and the list of synsets."""
    written = _ilsvrc_images(images, size, seed)
    folder = root / "Annotations" / "CLS-LOC" / "val"
    folder.mkdir(parents=True, exist_ok=True)
    for one in written:
        write_image(root / "Data" / "CLS-LOC" / "val" / f"{one.image_id}.JPEG", one.pixels)
        (folder / f"{one.image_id}.xml").write_text(voc_xml(one), encoding="utf-8")
    lines = [f"{synset} class {label}, its other name" for label, synset in enumerate(SYNSETS)]
    # The labels follow the sorted synsets, not their order in the file.
    text = "\n".join(reversed(lines)) + "\n"
    (root / "LOC_synset_mapping.txt").write_text(text, encoding="utf-8")
    return written


def voc_xml(image: WrittenImage) -> str:
    """The XML file of one image."""
    height, width = image.pixels.shape[:2]
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
        pixels = np.full((*size, 3), 40 + 5 * number, dtype=np.uint8)
        boxes = np.concatenate([_drift(1, size, rng) for _ in range(1 + number % 2)])
        for box in boxes.astype(int):
            _fill(pixels, box, colour=200)
        image_id = f"ILSVRC2012_val_{number + 1:08d}"
        written.append(WrittenImage(image_id, number % len(SYNSETS), pixels, boxes))
    return written


def _inclusive(box: NDArray[np.float64]) -> list[int]:
    x0, y0, x1, y1 = box.astype(int).tolist()
    return [x0, y0, x1 - 1, y1 - 1]


def _fill(pixels: NDArray[np.uint8], box: NDArray[np.int_], colour: int) -> None:
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = colour
