"""JHMDB: boxes and masks against loops over pixels; errors that name the file."""

import math
import pickle
import shutil

import numpy as np
import pytest
import torch
from datasets_on_disk import (
    SIZE,
    random_pixels,
    write_image,
    write_jhmdb,
    write_person,
    write_video,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from torch.utils.data import DataLoader

from captum_3dcam.datasets import JHMDB
from captum_3dcam.datasets._files import collect_problems
from captum_3dcam.datasets.jhmdb import joint_boxes


@pytest.fixture
def written(tmp_path):
    return write_jhmdb(tmp_path)


def joints_file(root, name):
    return root / "joint_positions" / name / "joint_positions.mat"


def masks_file(root, name):
    return root / "puppet_mask" / name / "puppet_mask.mat"


def naive_joint_box(joints, size):
    """Around the pixels of joints that count from 1, joint by joint."""
    height, width = size
    finite = [(x, y) for x, y in joints if math.isfinite(x) and math.isfinite(y)]
    if not any(0.5 <= x <= width + 0.5 and 0.5 <= y <= height + 0.5 for x, y in finite):
        return [math.nan] * 4
    columns, rows = zip(*finite, strict=True)
    return [
        min(max(min(columns) - 1, 0), width),
        min(max(min(rows) - 1, 0), height),
        max(min(max(columns), width), 0),
        max(min(max(rows), height), 0),
    ]


def naive_box(person, t, boxes):
    if boxes == "mask" and t < len(person.masks) and person.masks[t].any():
        rows, columns = np.nonzero(person.masks[t])
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return naive_joint_box(person.joints[t].tolist(), person.pixels.shape[1:3])


# ------------------------------------------------------------------------------------ valid data


@pytest.mark.parametrize("boxes", ["mask", "joints"])
@pytest.mark.parametrize("clip_length", [None, 4, 16])
@pytest.mark.parametrize(
    ("subset", "split"), [("test", 1), ("train", 1), ("test", 2), ("train", 3)]
)
def test_every_frame_is_as_it_was_written(tmp_path, written, boxes, clip_length, subset, split):
    data = JHMDB(str(tmp_path), subset, split, clip_length=clip_length, boxes=boxes)
    expected = [person for person in written if person.subsets[split - 1] == subset]
    assert data.classes == ("catch", "golf")
    assert data.videos == tuple(person.name for person in expected)
    assert len(expected) > 0
    seen = set()
    for sample in data:
        person = expected[data.videos.index(sample.video)]
        assert sample.label == person.label
        assert sample.boxes.shape == (1, len(sample.frames), 4)
        assert sample.masks.shape == (1, len(sample.frames), *SIZE)
        for row, t in enumerate(sample.frames.tolist()):
            pixels = (sample.clip[:, row] * 255).round().movedim(0, -1).numpy()
            assert np.array_equal(pixels, person.pixels[t])
            if sample.padded[row]:
                assert sample.boxes[0, row].isnan().all()
                assert not sample.masks[0, row].any()
                continue
            seen.add((sample.video, t))
            box = sample.boxes[0, row].tolist()
            assert box == pytest.approx(naive_box(person, t, boxes), nan_ok=True, abs=1e-4)
            mask = person.masks[t] if t < len(person.masks) else np.zeros(SIZE)
            assert np.array_equal(sample.masks[0, row], mask)
    assert seen == {(person.name, t) for person in expected for t in range(len(person.pixels))}


def test_the_written_data_has_all_cases(written):
    """Masks as long as the video, shorter, and none; joints in the frame and outside."""
    missing = {len(person.pixels) - len(person.masks) for person in written}
    assert missing == {0, 2, 16}
    joints = np.concatenate([person.joints.reshape(-1, 2) for person in written])
    assert (joints < 0).any(axis=0).all()
    assert (joints > np.array(SIZE[::-1]) + 1).any(axis=0).all()


def test_valid_data_has_no_problems(tmp_path, written):
    for subset in ("train", "test"):
        assert JHMDB(tmp_path, subset).check() == []


def test_splits_may_be_beside_the_data(tmp_path, written):
    videos = JHMDB(tmp_path).videos
    for path in (tmp_path / "splits").iterdir():
        shutil.move(path, tmp_path)
    assert JHMDB(tmp_path).videos == videos != ()


def test_videos_may_be_files(tmp_path, written):
    pytest.importorskip("av")
    expected = JHMDB(tmp_path)[0]
    person = next(p for p in written if p.name == expected.video)
    shutil.rmtree(tmp_path / "Rename_Images" / person.name)
    write_video(tmp_path / "ReCompress_Videos" / f"{person.name}.avi", person.pixels)
    data = JHMDB(tmp_path)
    assert torch.equal(data[0].clip, expected.clip)
    assert data.check() == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_return_the_same_samples(tmp_path, written):
    data = pickle.loads(pickle.dumps(JHMDB(tmp_path)))
    loaded = list(DataLoader(data, batch_size=None, num_workers=1))
    for sample, expected in zip(loaded, data, strict=True):
        assert torch.equal(sample.clip, expected.clip)
        assert torch.equal(sample.masks, expected.masks)
        assert sample.video == expected.video


def test_a_video_of_one_frame(tmp_path):
    """MATLAB drops the last axis of (2, 15, 1) and of (H, W, 1)."""
    (person,) = write_jhmdb(tmp_path, {"jump": (1,)})
    savemat(joints_file(tmp_path, person.name), {"pos_img": person.joints[0].T})
    savemat(masks_file(tmp_path, person.name), {"part_mask": person.masks[0].astype(float)})
    sample = JHMDB(tmp_path, clip_length=None, boxes="joints")[0]
    assert sample.clip.shape == (3, 1, *SIZE)
    assert np.array_equal(sample.masks[0], person.masks)
    expected = naive_joint_box(person.joints[0].tolist(), SIZE)
    assert sample.boxes[0, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_frames_with_an_empty_mask_use_the_joints(tmp_path):
    (person,) = write_jhmdb(tmp_path, {"jump": (3,)})
    person.masks[1] = False
    write_person(tmp_path, person)
    sample = JHMDB(tmp_path)[0]
    assert not sample.masks[0, 1].any()
    expected = naive_joint_box(person.joints[1].tolist(), SIZE)
    assert sample.boxes[0, 1].tolist() == pytest.approx(expected, abs=1e-4)


def test_all_parts_of_a_puppet_are_one_mask(tmp_path):
    (person,) = write_jhmdb(tmp_path, {"jump": (1,)})
    parts = np.zeros((*SIZE, 1), np.uint8)
    parts[2, 3], parts[5, 7], parts[9, 4] = 1, 9, 255
    savemat(masks_file(tmp_path, person.name), {"part_mask": parts})
    sample = JHMDB(tmp_path)[0]
    assert sample.masks[0, 0].nonzero().tolist() == [[2, 3], [5, 7], [9, 4]]
    assert sample.boxes[0, 0].tolist() == [3, 2, 8, 10]


# ------------------------------------------------------------------------------------ the joints

COORDINATES = st.floats(-10, 60) | st.sampled_from([0.5, 1, 32, 32.5, 24.5, math.nan, math.inf])


@given(st.lists(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=3), min_size=1))
@settings(max_examples=300)
def test_joint_boxes(frames):
    boxes = joint_boxes(torch.tensor(frames, dtype=torch.float64), SIZE)
    assert boxes.dtype == torch.float32
    for box, joints in zip(boxes.tolist(), frames, strict=True):
        assert box == pytest.approx(naive_joint_box(joints, SIZE), nan_ok=True, abs=1e-4)
        assert math.isnan(box[0]) or (0 <= box[0] < box[2] <= 32 and 0 <= box[1] < box[3] <= 24)


def test_the_first_pixel_is_number_one():
    corners = torch.tensor([[[1.0, 1.0]], [[32.0, 24.0]]])
    assert joint_boxes(corners, SIZE).tolist() == [[0, 0, 1, 1], [31, 23, 32, 24]]


# ------------------------------------------------------------------------------ wrong arguments


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"subset": "val"}, "subset='val' is not known. Choose one of 'train', 'test'."),
        ({"split": 4}, "split=4 is not known. Choose one of 1, 2, 3."),
        ({"boxes": "tight"}, "boxes='tight' is not known. Choose one of 'mask', 'joints'."),
    ],
)
def test_invalid_arguments_are_refused(tmp_path, written, keywords, message):
    with pytest.raises(ValueError) as error:
        JHMDB(tmp_path, **keywords)
    assert str(error.value) == message


def test_the_error_names_a_folder_without_splits(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        JHMDB(tmp_path / "none", split=2)
    searched = " or ".join(repr(str(tmp_path / "none" / name)) for name in ("splits", "."))
    assert str(error.value) == f"There is no file '?*_test_split2.txt' in {searched}."


@pytest.mark.parametrize("name", ["../golf", "/etc/passwd", "a/b", "..", "C:\\a", "x\0"])
def test_a_video_outside_the_folder_is_refused(tmp_path, written, name):
    path = tmp_path / "splits" / "golf_test_split1.txt"
    path.write_text(f"a.avi 1\n{name}.avi 2\n")
    with pytest.raises(ValueError, match="golf_test_split1.txt', line 2: "):
        JHMDB(tmp_path)


# ----------------------------------------------------------------------------------- damaged data


def first_of(data, name):
    return next(i for i, clip in enumerate(data.clips) if data.videos[clip.video] == name)


def check_one(root, name):
    """The one problem of the test videos; reading the first clip raises it."""
    data = JHMDB(root)
    (problem,) = data.check()
    return data, str(problem), problem.path


@pytest.mark.parametrize("file", [joints_file, masks_file])
def test_the_error_names_a_missing_mat_file(tmp_path, written, file):
    name = JHMDB(tmp_path).videos[1]
    file(tmp_path, name).unlink()
    data, message, path = check_one(tmp_path, name)
    assert path == file(tmp_path, name)
    assert message == f"There is no MAT file {str(path)!r}."
    with pytest.raises(FileNotFoundError, match="There is no MAT file"):
        data[first_of(data, name)]
    assert data[0].video != name


@pytest.mark.parametrize("file", [joints_file, masks_file])
def test_the_error_names_a_truncated_mat_file(tmp_path, written, file):
    name = JHMDB(tmp_path).videos[1]
    path = file(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-20])
    data, message, problem_path = check_one(tmp_path, name)
    assert problem_path == path
    assert message.startswith(f"{str(path)!r} cannot be read as a MAT file with an array 'p")
    with pytest.raises(ValueError, match="cannot be read as a MAT file"):
        data[first_of(data, name)]


@pytest.mark.parametrize("shape", [(2, 14, 5), (3, 15, 5), (2, 15, 5, 2), (15, 2), (0, 0)])
def test_joints_of_another_shape_are_refused(tmp_path, written, shape):
    name = JHMDB(tmp_path).videos[1]
    path = joints_file(tmp_path, name)
    savemat(path, {"pos_img": np.ones(shape)})
    data, message, problem_path = check_one(tmp_path, name)
    assert problem_path == path
    assert message == f"'pos_img' in {str(path)!r} has the shape {shape}; expected (2, 15, T)."
    with pytest.raises(ValueError, match="expected"):
        data[first_of(data, name)]


@pytest.mark.parametrize("shape", [(24, 31, 5), (32, 24, 5), (24, 32, 2, 2)])
def test_masks_of_another_shape_are_refused(tmp_path, written, shape):
    name = JHMDB(tmp_path).videos[1]
    path = masks_file(tmp_path, name)
    savemat(path, {"part_mask": np.ones(shape)})
    data, message, problem_path = check_one(tmp_path, name)
    assert problem_path == path
    assert message == (
        f"'part_mask' in {str(path)!r} has the shape {shape}; expected (H, W, T), and the frames "
        "are 24 x 32."
    )
    with pytest.raises(ValueError, match="expected"):
        data[first_of(data, name)]


@pytest.mark.parametrize("more", [-2, 3])
def test_joints_of_another_length_are_a_problem(tmp_path, more):
    (person,) = write_jhmdb(tmp_path, {"jump": (5,)})
    joints = np.concatenate([person.joints, person.joints])[: 5 + more]
    write_person(tmp_path, person._replace(joints=joints))
    _, message, path = check_one(tmp_path, person.name)
    assert path == joints_file(tmp_path, person.name)
    assert message == f"{str(path)!r} has {5 + more} frames; the video has 5."
    sample = JHMDB(tmp_path, boxes="joints", clip_length=None)[0]
    for t, box in enumerate(sample.boxes[0].tolist()):
        known = t < len(joints)
        expected = naive_joint_box(joints[t].tolist(), SIZE) if known else [math.nan] * 4
        assert box == pytest.approx(expected, nan_ok=True, abs=1e-4)


def test_masks_longer_than_the_video_are_a_problem(tmp_path):
    (person,) = write_jhmdb(tmp_path, {"jump": (5,)})
    masks = np.concatenate([person.masks, person.masks])
    write_person(tmp_path, person._replace(masks=masks))
    _, message, path = check_one(tmp_path, person.name)
    assert path == masks_file(tmp_path, person.name)
    assert message == f"{str(path)!r} has 10 frames; the video has 5."


def test_joints_that_are_not_finite_are_a_problem(tmp_path):
    (person,) = write_jhmdb(tmp_path, {"jump": (5,)})
    person.joints[2, 3, 1] = math.nan
    write_person(tmp_path, person)
    _, message, path = check_one(tmp_path, person.name)
    assert message == f"{str(path)!r} has joints that are nan or inf."
    sample = JHMDB(tmp_path, boxes="joints")[0]
    expected = naive_joint_box(person.joints[2].tolist(), SIZE)
    assert sample.boxes[0, 2].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_class_without_a_split_is_a_problem(tmp_path, written):
    (tmp_path / "splits" / "catch_test_split1.txt").unlink()
    data, message, path = check_one(tmp_path, "")
    assert data.classes == ("golf",)
    assert path == tmp_path / "joint_positions" / "catch"
    assert message == f"The class {str(path)!r} has no split file: labels differ from JHMDB's."


def test_check_returns_all_problems(tmp_path, written):
    first, second, third = JHMDB(tmp_path).videos
    shutil.rmtree(tmp_path / "Rename_Images" / first)
    joints_file(tmp_path, second).write_bytes(b"damaged")
    masks_file(tmp_path, second).unlink()
    image = tmp_path / "Rename_Images" / third / "00002.png"
    image.write_bytes(image.read_bytes()[:-30])
    write_image(image.with_name("00004.png"), random_pixels(1, (8, 8))[0])
    data = JHMDB(tmp_path)
    problems = data.check()
    assert [problem.path for problem in problems] == [
        tmp_path / "ReCompress_Videos" / f"{first}.avi",
        joints_file(tmp_path, second),
        masks_file(tmp_path, second),
        image,
        image.with_name("00004.png"),
    ]
    assert all(problem.path.name in str(problem) for problem in problems)
    for name in (first, second, third):
        with pytest.raises((ValueError, FileNotFoundError)):
            data[first_of(data, name)]


@given(st.data())
@settings(max_examples=150)
def test_damaged_mat_files_give_clear_errors(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("fuzz")
    (person,) = write_jhmdb(root, {"jump": (2,)}, size=(6, 8))
    path = data.draw(st.sampled_from([joints_file, masks_file]))(root, person.name)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(124, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    dataset = JHMDB(root)
    problems = dataset.check()
    assert all(problem.path == path for problem in problems)
    raised = []
    with collect_problems(raised, path):
        boxes = dataset[0].boxes
        inside = boxes[~boxes.isnan()]
        assert ((inside >= 0) & (inside <= 8)).all()
    assert {*raised} <= {*problems}
