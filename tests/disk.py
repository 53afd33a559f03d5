"""Tiny datasets of random pictures, each in its own format on disk, with the truth of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (24, 32)
# Some of the published names have such characters.
ODD_NAME = "#20_a_[b]_(c)&'d'_f_cm_np1"


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


# ----------------------------------------------------------------------------------- pictures


def random_pixels(frames: int, size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) bytes, every frame another."""
    return np.random.default_rng(seed).integers(0, 256, (frames, *size, 3), dtype=np.uint8)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """(H, W, 3) bytes as PNG or JPEG, by the path's suffix; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_pictures(folder: Path, pixels: np.ndarray, name: str = "{:05d}.png") -> None:
    """(T, H, W, 3) bytes as numbered pictures, the first one number 1."""
    for number, frame in enumerate(pixels, start=1):
        write_picture(folder / name.format(number), frame)


def write_video(path: Path, pixels: np.ndarray, fps: int = 25) -> None:
    """(T, H, W, 3) bytes as a video file without loss. Needs PyAV."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], "bgr0"
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


# ----------------------------------------------------------------------------------- datasets


def write_jhmdb(
    root: Path,
    lengths: Mapping[str, Sequence[int]] | None = None,
    *,
    size: tuple[int, int] = SIZE,
    seed: int = 0,
) -> list[WrittenPerson]:
    """JHMDB with videos of these lengths in each class, by default three and one.

    In split 1 the videos of a class are for test and training in turns. Of every three videos
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
                    _turns(number),
                    rng.uniform(-0.2, 1.2, (frames, 15, 2)) * size[::-1] + 1,
                    masks[:0] if number % 3 == 2 else masks,
                )
            )
    for person in written:
        write_person(root, person)
    _write_class_splits(root / "splits", written)
    return written


def write_person(root: Path, person: WrittenPerson) -> None:
    """The pictures, joints and masks of one video of JHMDB, without its line in the splits."""
    write_pictures(root / "Rename_Images" / person.name, person.pixels)
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
    """UCF101 as folders of pictures, in order of classes, by default of three videos and one.

    In split 1 the videos of a class are for test and training in turns.
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
    """HMDB51 as folders of pictures, by default of three videos and one.

    In split 1 the videos of a class are for test and training in turns, in split 3 every fourth
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
            write_pictures(root / video, pixels)
            written.append(WrittenVideo(video, label, pixels, _turns(number)))
    return written


def _turns(number: int) -> tuple[str, str, str]:
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
