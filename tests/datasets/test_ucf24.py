"""UCF101-24: clips and boxes as written; errors that name the file, the video and the tube."""

import copy
import math
import pickle
import shutil
import tracemalloc
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from datasets_on_disk import (
    UCF24_CLASSES,
    ucf24_record,
    write_image,
    write_pyannot,
    write_ucf24,
    write_video,
)
from hypothesis import HealthCheck, given, settings
from PIL import Image
from torch.utils.data import DataLoader

from captum_3dcam.datasets import UCF101_24, VideoClip, load_pyannot
from captum_3dcam.datasets.ucf24 import CLASSES, TubeAnnotation, VideoAnnotation

REAL = Path(__file__).parents[3] / "shared" / "data" / "ucf24"
FRAMES = 20

# The file fixture is only overwritten by each example.
given_a_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def written(tmp_path):
    return write_ucf24(tmp_path, frames=FRAMES)


def equal(a: torch.Tensor, b: np.ndarray) -> bool:
    return a.dtype == torch.float32 and np.array_equal(a.numpy(), b, equal_nan=True)


# ----------------------------------------------------------------------------------- the clips


@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.parametrize("clip_length", [1, 6, 16, 20, 50, None])
def test_clips_are_as_written(tmp_path, written, subset, clip_length):
    data = UCF101_24(tmp_path, subset, clip_length=clip_length)
    assert data.videos == tuple(video.name for video in written[subset])
    length = FRAMES if clip_length is None else clip_length
    expected = [(v, s) for v in written[subset] for s in range(0, FRAMES, length)]
    assert len(data) == len(expected)
    for clip, (video, start) in zip(data, expected, strict=True):
        assert isinstance(clip, VideoClip)
        assert (clip.video, clip.label, clip.masks) == (video.name, video.label, None)
        assert data.classes[clip.label] == video.name.split("/")[0]
        numbers = [min(start + t, FRAMES - 1) for t in range(length)]
        assert clip.frames.tolist() == numbers
        assert clip.padded.tolist() == [start + t >= FRAMES for t in range(length)]
        folder = tmp_path / "rgb-images" / video.name
        images = [np.asarray(Image.open(folder / f"{n + 1:05d}.jpg")) for n in numbers]
        pixels = (clip.clip * 255).round().movedim(0, -1).numpy()
        assert np.array_equal(pixels, images)
        # JPEG blurs the edges.
        assert np.abs(pixels - video.pixels[numbers]).mean() < 5
        boxes = video.boxes()[:, numbers]
        boxes[:, clip.padded.numpy()] = np.nan
        assert equal(clip.boxes, boxes)


def test_the_boxes_lie_on_the_actors(tmp_path, written):
    """In the pixels of the frames."""
    clip = UCF101_24(tmp_path, clip_length=None)[0]
    for frame, (x0, y0, x1, y1) in zip(clip.clip[0].unbind(0), clip.boxes[0], strict=True):
        rows, columns = torch.nonzero(frame > 0.6, as_tuple=True)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == [x0, y0, x1, y1]


def test_tubes_of_a_clip(tmp_path, written):
    """The second actor of the second video is visible in frames 5 to 14."""
    clips = [clip for clip in UCF101_24(tmp_path, clip_length=8) if clip.boxes.shape[0] == 2]
    spans = [[(tube.start, tube.end) for tube in clip.tubes] for clip in clips]
    assert spans == [[(0, 8), (5, 8)], [(0, 8), (0, 7)], [(0, 4)]]


@pytest.mark.parametrize("clip_length", [4, 5, 16, None])
def test_only_clips_with_boxes(tmp_path, written, clip_length):
    videos = [video._replace(tubes=video.tubes[1:]) for video in written["test"]]
    records = [ucf24_record(video, 0) for video in videos]
    write_pyannot(tmp_path / "pyannot.pkl", records)
    every = UCF101_24(tmp_path, clip_length=clip_length)
    some = UCF101_24(tmp_path, clip_length=clip_length, annotated_only=True)
    expected = [clip for clip in every if not clip.boxes.isnan().all()]
    assert 0 < len(some) == len(expected) < len(every)
    for sample, clip in zip(some, expected, strict=True):
        assert (sample.video, sample.frames.tolist()) == (clip.video, clip.frames.tolist())
        assert equal(sample.boxes, clip.boxes.numpy())
    assert some.videos == every.videos


@given(st.data())
def test_boxes_of_some_frames(data):
    spans = st.tuples(st.integers(0, 9), st.integers(1, 9))
    tubes = tuple(
        TubeAnnotation(start, np.full((length, 4), number + 1, dtype=np.float32))
        for number, (start, length) in enumerate(data.draw(st.lists(spans, max_size=3)))
    )
    start, stop = sorted(data.draw(st.lists(st.integers(0, 20), min_size=2, max_size=2)))
    boxes = VideoAnnotation(20, 0, tubes).boxes(start, stop)
    assert boxes.shape == (len(tubes), stop - start, 4)
    for number, tube in enumerate(tubes):
        for frame in range(start, stop):
            is_annotated = frame in range(tube.start, tube.stop)
            expected = [number + 1.0] * 4 if is_annotated else [math.nan] * 4
            assert np.array_equal(boxes[number, frame - start], expected, equal_nan=True)


def test_clips_do_not_share_boxes(tmp_path, written):
    data = UCF101_24(tmp_path)
    data[0].boxes.zero_()
    assert data[0].boxes.any()


def test_without_a_list_for_training_it_uses_all_other_videos(tmp_path, written):
    with_list = UCF101_24(tmp_path, "train")
    (tmp_path / "trainlist01.txt").unlink()
    assert UCF101_24(tmp_path, "train").videos == with_list.videos


def test_the_lists_may_be_in_a_folder(tmp_path, written):
    (tmp_path / "splitfiles").mkdir()
    for name in ("pyannot.pkl", "testlist01.txt", "trainlist01.txt"):
        (tmp_path / name).rename(tmp_path / "splitfiles" / name)
    assert len(UCF101_24(str(tmp_path)).videos) == len(written["test"])
    assert len(UCF101_24(tmp_path, "train").videos) == len(written["train"])


def test_video_files_are_read_alike(tmp_path, written):
    pytest.importorskip("av")
    expected = [clip.clip for clip in UCF101_24(tmp_path)]
    for video in written["test"]:
        write_video(tmp_path / f"{video.name}.avi", video.pixels)
    shutil.rmtree(tmp_path / "rgb-images")
    for clip, frames in zip(UCF101_24(tmp_path), expected, strict=True):
        assert (clip.clip - frames).abs().mean() < 0.01


# Newer Pythons warn of any fork beside threads, torch of more workers than there are cores.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_workers_return_the_same_samples(tmp_path, written):
    data = pickle.loads(pickle.dumps(UCF101_24(tmp_path)))
    loaded = list(DataLoader(data, batch_size=None, num_workers=2))
    for a, b in zip(loaded, UCF101_24(tmp_path), strict=True):
        assert isinstance(a, VideoClip)
        assert (a.video, a.frames.tolist()) == (b.video, b.frames.tolist())
        assert torch.equal(a.clip, b.clip)
        assert equal(a.boxes, b.boxes.numpy())


# ----------------------------------------------------------------------------- the real files


@pytest.mark.skipif(not REAL.exists(), reason=f"no annotations at {REAL}")
def test_the_real_annotations():
    videos = load_pyannot(REAL / "pyannot.pkl")
    tubes = [tube for video in videos.values() for tube in video.tubes]
    assert (len(videos), len(tubes)) == (3194, 4458)
    assert sum(video.frames for video in videos.values()) == 555_157
    assert {name.split("/")[0] for name in videos} == set(CLASSES)
    assert {video.label for video in videos.values()} == set(range(24))
    boxes = np.concatenate([tube.boxes for tube in tubes])
    assert (boxes.shape, boxes.dtype) == ((573_862, 4), np.float32)
    assert boxes.min() == 0
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    # The largest x + w, counted from 1, is 320: the last column is never in a box.
    assert boxes.max(axis=0).tolist()[2:] == [319, 239]


@pytest.mark.skipif(not REAL.exists(), reason=f"no annotations at {REAL}")
def test_the_real_list():
    data = UCF101_24(REAL)
    assert len(data.videos) == len(set(data.videos)) == 910
    assert data.videos[0] == "Basketball/v_Basketball_g01_c01"
    assert set(data.labels) == set(range(24))
    train = UCF101_24(REAL, "train", clip_length=None)
    assert (len(train), set(train.videos) & set(data.videos)) == (2284, set())
    assert len(data) == 10_350
    assert len(UCF101_24(REAL, annotated_only=True)) == 9211
    # All frames are missing, but no box is wrong.
    problems = data.check()
    assert [problem.message.startswith("There is no folder") for problem in problems] == [
        True
    ] * 910


# ------------------------------------------------------------------------- damaged annotations

BOXES = np.array([[1, 1, 10, 20], [200, 3, 100, 200]], dtype=np.uint8)
TUBE = {"label": 2, "sf": 3, "ef": 5, "boxes": BOXES}
NAME = "Biking/v_Biking_g01_c01"


def records(**changes) -> dict:
    """One video with one tube; the changes are of its tube, or of the video if it has the key."""
    video = {"numf": 9, "label": 2, "annotations": [copy.deepcopy(TUBE)]}
    for key, value in changes.items():
        (video if key in video and key != "label" else video["annotations"][0])[key] = value
    return {NAME: video}


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "pyannot.pkl"


def test_boxes_count_from_0_and_do_not_overflow(file):
    for stored in (BOXES, BOXES.astype(">u2"), BOXES.astype(float), np.asfortranarray(BOXES)):
        file.write_bytes(pickle.dumps(records(boxes=stored)))
        frames, label, (tube,) = load_pyannot(str(file))[NAME]
        assert (frames, label, tube.start, tube.stop) == (9, 2, 3, 5)
        assert tube.boxes.tolist() == [[0, 0, 10, 20], [199, 2, 299, 202]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([], "{file}: expected a dict; got a list."),
        (
            {NAME: 3},
            "{video}: malformed annotation, TypeError(\"'int' object is not subscriptable\")",
        ),
        ({NAME: {}}, "{video}: malformed annotation, KeyError('numf')"),
        ({NAME: {"numf": 9, "label": 2}}, "{video}: malformed annotation, KeyError('annotations')"),
        ({3: records()[NAME]}, "{file}, video 3: malformed annotation, AttributeError("),
        (records(numf=0), "{video}: 'numf' is 0, not a number from 1 to 1048576."),
        (records(numf=2**20 + 1), "{video}: 'numf' is 1048577, not a number from 1 to 1048576."),
        (records(numf=10**5000), "{video}: "),
        (
            records(numf=9.0),
            "{video}: malformed annotation, TypeError(\"'float' object cannot be",
        ),
        (records(numf=4), "{tube}: frames 3 to 5 are not in the video of 4."),
        (
            records(annotations=3),
            "{video}: malformed annotation, TypeError(\"'int' object is not iterable\")",
        ),
        (
            records(annotations=[None]),
            "{video}: malformed annotation, TypeError(\"'NoneType' object is not sub",
        ),
        (
            records(annotations=[{"sf": 1, "ef": 2}]),
            "{video}: malformed annotation, KeyError('boxes')",
        ),
        (records(label=3), "{tube}: its label is not that of its video, 2."),
        (records(sf=-1), "{tube}: frames -1 to 5 are not in the video of 9."),
        (
            records(sf="3"),
            "{video}: malformed annotation, TypeError(\"'str' object cannot be",
        ),
        (records(sf=2), "{tube}: frames 2 to 5 need boxes of shape (3, 4); got (2, 4)."),
        (records(sf=7), "{tube}: frames 7 to 5 are not in the video of 9."),
        (
            records(boxes=BOXES.tolist()),
            "{video}: malformed annotation, AttributeError(\"'list' object has no attribute",
        ),
        (records(boxes=BOXES[:1]), "{tube}: frames 3 to 5 need boxes of shape (2, 4); got (1, 4)."),
        (records(boxes=BOXES[:, :3]), "{tube}: frames 3 to 5 need boxes of shape (2, 4); got (2, "),
        (records(boxes=BOXES + np.nan), "{tube}: its boxes are not all finite."),
        (records(boxes=BOXES * 1e300), "{tube}: its boxes are not all finite."),
        (
            {"Diving/v_1": records()[NAME]},
            "{file}, video 'Diving/v_1': label 2 is not that of its class. The labels are those "
            "of the 24 classes in alphabetical order, from 0.",
        ),
        ({NAME: records(label=24)[NAME] | {"label": 24}}, "{video}: label 24 is not that of its"),
        ({"Chess/v_1": records()[NAME]}, "{file}, video 'Chess/v_1': "),
    ],
    ids=lambda value: value[-40:] if isinstance(value, str) else "",
)
def test_malformed_annotations_are_refused(file, changed, message):
    file.write_bytes(pickle.dumps(changed))
    with pytest.raises(ValueError) as error:
        load_pyannot(file)
    video = f"{str(file)!r}, video {NAME!r}"
    names = {"file": repr(str(file)), "video": video, "tube": f"{video}: tube 0"}
    assert str(error.value).startswith(message.format(**names))


@pytest.mark.parametrize(
    "name",
    ["Biking/../../secret", "/Biking", "Biking//v", "Biking\\v", "C:/Biking", "a\0b", "Biking/."],
)
def test_names_outside_the_folder_are_refused(tmp_path, file, name):
    file.write_bytes(pickle.dumps({name: records()[NAME]}))
    with pytest.raises(ValueError, match="is not a path inside the dataset's folder"):
        load_pyannot(file)
    write_ucf24(tmp_path)
    (tmp_path / "testlist01.txt").write_text(name.replace("\0", "\\") + "\n")
    with pytest.raises(ValueError, match="testlist01.txt', line 1: .*inside the dataset's folder"):
        UCF101_24(tmp_path)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(
        [[], {}, BOXES, BOXES[:1], np.int16(-3), np.float32(2), np.zeros((0, 4)), 2**40]
    ),
    st.sampled_from(["u1", ">i8", "f2", "f8"]).map(lambda kind: np.ones((2, 4), dtype=kind)),
)
KEYS = ["numf", "label", "annotations", "sf", "ef", "boxes", NAME, "Diving/v_1"]


@given(st.lists(st.tuples(st.sampled_from(KEYS), JUNK), min_size=1, max_size=4), st.integers(0, 2))
@settings(given_a_file, max_examples=300)
def test_random_values_are_refused_or_valid(file, changes, depth):
    """The result is consistent for every input."""
    videos = records()
    for key, value in changes:
        record = [videos, videos[NAME], videos[NAME]["annotations"]][depth]
        record = record[0] if depth == 2 and isinstance(record, list) and record else record
        if not isinstance(record, dict) or NAME not in videos:
            break
        record[key] = copy.deepcopy(value)
        if not isinstance(videos[NAME], dict) or "annotations" not in videos[NAME]:
            break
    file.write_bytes(pickle.dumps(videos, 3))
    valid_or_refused(file)


@given(st.data())
@settings(given_a_file, max_examples=300)
def test_flipped_bytes_are_refused_or_valid(file, data):
    broken = bytearray(pickle.dumps(records(), 3))
    changes = st.tuples(st.integers(0, len(broken) - 1), st.integers(0, 255))
    for position, byte in data.draw(st.lists(changes, min_size=1, max_size=3)):
        broken[position] = byte
    file.write_bytes(broken)
    valid_or_refused(file)


def valid_or_refused(file: Path) -> None:
    tracemalloc.start()
    try:
        for name, (frames, label, tubes) in load_pyannot(file).items():
            assert CLASSES[label] == name.split("/")[0]
            for tube in tubes:
                assert 0 <= tube.start <= tube.stop <= frames <= 2**20
                assert (tube.boxes.shape, tube.boxes.dtype) == ((len(tube.boxes), 4), np.float32)
                assert np.isfinite(tube.boxes).all()
    except ValueError as error:
        assert repr(str(file)) in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**21


# ----------------------------------------------------------------------------- other errors


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file 'pyannot.pkl' in .*splitfiles' or "):
        UCF101_24(tmp_path)
    write_ucf24(tmp_path)
    (tmp_path / "testlist01.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no file 'testlist01.txt'"):
        UCF101_24(tmp_path)
    assert UCF101_24(tmp_path, "train").videos
    (tmp_path / "trainlist01.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no file 'testlist01.txt'"):
        UCF101_24(tmp_path, "train")


def test_invalid_arguments_are_refused(tmp_path, written):
    with pytest.raises(
        ValueError, match=r"subset='val' is not known. Choose one of 'train', 'test'"
    ):
        UCF101_24(tmp_path, "val")
    with pytest.raises(ValueError, match="clip_length=0: expected an integer, 1 or more"):
        UCF101_24(tmp_path, clip_length=0)
    with pytest.raises(IndexError, match="no sample 6: the dataset has 6, numbered from 0."):
        UCF101_24(tmp_path)[6]


def test_valid_data_has_no_problems(tmp_path, written):
    assert UCF101_24(tmp_path).check() == UCF101_24(tmp_path, "train").check() == []


def test_check_returns_all_problems(tmp_path, written):
    first, second, third = written["test"]
    far = [(0, np.array([[0, 0, 5, 5], [-1, 2, 9, 9], [0, 0, 33, 5], [4, 4, 4, 8]]))]
    annotated = [(first._replace(tubes=far)), second, third]
    # uint16 from 1; a negative x needs a sign.
    record = ucf24_record(annotated[0], 1)
    boxes = record[1]["annotations"][0]["boxes"]
    record[1]["annotations"][0]["boxes"] = boxes.astype(np.int16)
    rest = [ucf24_record(video, 0) for video in annotated[1:]]
    write_pyannot(tmp_path / "pyannot.pkl", [record, *rest])
    with (tmp_path / "testlist01.txt").open("a") as names:
        names.write("Biking/v_Biking_g99_c99\n")
    frames = tmp_path / "rgb-images"
    (frames / second.name / f"{FRAMES:05d}.jpg").unlink()
    damaged = frames / third.name / "00002.jpg"
    damaged.write_bytes(damaged.read_bytes()[:-300])
    other = frames / third.name / "00004.jpg"
    write_image(other, np.zeros((8, 8, 3), dtype=np.uint8))
    data = UCF101_24(tmp_path)
    pyannot, folder = repr(str(tmp_path / "pyannot.pkl")), repr(str(frames / second.name))
    expected = [
        f"{pyannot} has no annotation of the listed 'Biking/v_Biking_g99_c99'.",
        f"{pyannot}, video {first.name!r}, tube 0 from frame 0: 3 of 4 boxes are empty or extend "
        "beyond the image of 32 x 24 pixels; the first is box 1, [-1.0, 2.0, 9.0, 9.0].",
        f"{folder} has 19 frames; {pyannot} expects 20.",
        f"{str(damaged)!r} cannot be read as an image: ",
        f"The image {str(other)!r} has 8 x 8 pixels; the images before it in the same video have "
        "32 x 24.",
    ]
    problems = data.check()
    assert [str(p)[: len(e)] for p, e in zip(problems, expected, strict=True)] == expected
    assert [problem.path for problem in problems] == [
        tmp_path / "pyannot.pkl", tmp_path / "pyannot.pkl", frames / second.name, damaged, other,
    ]  # fmt: skip


def test_boxes_are_checked_without_frames(tmp_path, written):
    """Against the size of all frames of UCF101."""
    shutil.rmtree(tmp_path / "rgb-images")
    videos = list(written["test"])
    videos[0] = videos[0]._replace(tubes=[(0, np.array([[0, 0, 320, 240], [0, 0, 320, 241]]))])
    records = [ucf24_record(video, 1) for video in videos]
    write_pyannot(tmp_path / "pyannot.pkl", records)
    outside = [str(p) for p in UCF101_24(tmp_path).check() if "extend beyond" in str(p)]
    assert len(outside) == 1
    assert "tube 0 from frame 0: 1 of 2 boxes" in outside[0]
    assert outside[0].endswith("the first is box 1, [0.0, 0.0, 320.0, 241.0].")


def test_a_damaged_video_does_not_affect_the_others(tmp_path, written):
    broken = tmp_path / "rgb-images" / written["test"][1].name / "00003.jpg"
    broken.write_bytes(b"no image")
    data = UCF101_24(tmp_path)
    assert [data[i].video for i in (0, 1, 3, 4, 5)]
    with pytest.raises(ValueError, match=r"00003.jpg' cannot be read as an image"):
        data[2]
    broken.unlink()
    with pytest.raises(ValueError, match="19 images, numbered up to 20, but number 3 is missing"):
        data[3]
    shutil.rmtree(broken.parent)
    with pytest.raises(FileNotFoundError, match="There is no folder of frames .*and no video file"):
        data[2]


def test_the_classes_are_sorted():
    assert tuple(sorted(CLASSES)) == CLASSES
    assert len(CLASSES) == 24
    assert CLASSES[: len(UCF24_CLASSES)] == UCF24_CLASSES
