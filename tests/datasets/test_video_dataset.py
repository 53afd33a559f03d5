"""Videos cut into clips: every frame once, padding at the end, errors of one video only."""

import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets_on_disk import random_pixels, write_images
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from captum_3dcam.datasets import VideoClip
from captum_3dcam.datasets._frames import FrameSource
from captum_3dcam.datasets._video_dataset import GroundTruth, VideoDataset

SIZE = (6, 8)
CLASSES = ("a", "b")
LENGTHS = {"a/v0": 7, "b/v1": 4, "a/v2": 1, "b/v3": 8}


@pytest.fixture
def written(tmp_path):
    """The pixels of videos in folders of frames."""
    written = [random_pixels(frames, SIZE, seed=frames) for frames in LENGTHS.values()]
    for name, pixels in zip(LENGTHS, written, strict=True):
        write_images(tmp_path / name, pixels)
    return written


class Annotated(VideoDataset):
    """Annotations that depend on the frame i: the box i, i, i + 1, i + 2, and the mask (0, i)."""

    def _ground_truth(self, video, start, stop, size):
        numbers = torch.arange(start, stop).float()
        masks = torch.zeros(1, stop - start, *size, dtype=torch.bool)
        for row, number in enumerate(range(start, stop)):
            masks[0, row, 0, number % size[1]] = True
        offsets = torch.tensor([0.0, 0, 1, 2])
        return GroundTruth((numbers[:, None] + offsets)[None], masks)


def make(root, clip_length, kind=VideoDataset, videos=tuple(LENGTHS), lengths=None):
    return kind(Path(root), "test", 1, CLASSES, videos, clip_length, lengths)


def naive_clips(lengths, clip_length):
    """(video, [frame, ...], [is padded, ...]) of each clip, frame by frame."""
    clips = []
    for video, length in enumerate(lengths):
        queue = list(range(length))
        while queue:
            numbers = []
            padded = []
            for _ in range(clip_length):
                padded.append(not queue)
                numbers.append(queue.pop(0) if queue else numbers[-1])
            clips.append((video, numbers, padded))
    return clips


@pytest.mark.parametrize("clip_length", [1, 3, 4, 16])
def test_clips_are_consecutive_and_the_last_is_padded(tmp_path, written, clip_length):
    data = make(tmp_path, clip_length, Annotated)
    expected = naive_clips(LENGTHS.values(), clip_length)
    assert len(data) == len(expected)
    for sample, (video, numbers, padded) in zip(data, expected, strict=True):
        assert isinstance(sample, VideoClip)
        assert (sample.video, sample.label) == (list(LENGTHS)[video], video % 2)
        assert sample.frames.tolist() == numbers
        assert sample.padded.tolist() == padded
        assert (sample.frames.dtype, sample.padded.dtype) == (torch.int64, torch.bool)
        pixels = torch.from_numpy(written[video][numbers]).float() / 255
        torch.testing.assert_close(sample.clip, pixels.permute(3, 0, 1, 2))
        for row, (number, is_padded) in enumerate(zip(numbers, padded, strict=True)):
            box = sample.boxes[0, row]
            assert (
                box.isnan().all()
                if is_padded
                else box.tolist() == [number, number, number + 1, number + 2]
            )
            assert sample.masks[0, row].sum() == (not is_padded)
            assert is_padded or sample.masks[0, row, 0, number]


def test_without_a_clip_length_each_video_is_a_clip(tmp_path, written):
    data = make(tmp_path, None, Annotated)
    assert len(data) == 4
    for sample, pixels in zip(data, written, strict=True):
        torch.testing.assert_close(
            sample.clip, torch.from_numpy(pixels).permute(3, 0, 1, 2).float() / 255
        )
        assert sample.frames.tolist() == list(range(len(pixels)))
        assert not sample.padded.any()
        assert sample.boxes[0, :, 0].tolist() == sample.frames.tolist()


@given(st.lists(st.integers(0, 40), max_size=5), st.integers(1, 20))
def test_clips_cover_every_frame_once(lengths, clip_length):
    data = make(
        "none", clip_length, videos=[f"a/{i}" for i in range(len(lengths))], lengths=lengths
    )
    assert all(0 < stop - start <= clip_length for _, start, stop in data.clips)
    frames = [(video, i) for video, start, stop in data.clips for i in range(start, stop)]
    assert frames == [(video, i) for video, length in enumerate(lengths) for i in range(length)]
    assert len(data) == sum(math.ceil(length / clip_length) for length in lengths)


def test_without_annotations_there_are_no_boxes(tmp_path, written):
    sample = make(tmp_path, 4)[1]
    assert sample.boxes.shape == (0, 4, 4)
    assert sample.masks is None
    assert sample.tubes == []


def test_given_lengths_are_trusted_until_frames_are_missing(tmp_path, written):
    for clip_length, broken in ((4, 2), (None, 0)):
        data = make(tmp_path, clip_length, videos=["a/v0"], lengths=[9])
        with pytest.raises(ValueError, match="v0' ends after 7 frames"):
            data[broken]


def test_one_damaged_video_does_not_affect_the_others(tmp_path, written):
    for path in (tmp_path / "b" / "v1").iterdir():
        path.unlink()
    data = make(tmp_path, 4, videos=[*LENGTHS, "a/gone"])
    names = [data.videos[clip.video] for clip in data.clips]
    assert names == ["a/v0", "a/v0", "b/v1", "a/v2", "b/v3", "b/v3", "a/gone"]
    with pytest.raises(ValueError, match="v1' has no images"):
        data[2]
    with pytest.raises(FileNotFoundError, match="gone'"):
        data[6]
    assert data[3].video == "a/v2"
    assert [problem.path for problem in data.check()] == [
        tmp_path / "b" / "v1",
        tmp_path / "a" / "gone.avi",
    ]


def test_whole_videos_are_not_opened_before_they_are_read(tmp_path, written, monkeypatch):
    monkeypatch.setattr(FrameSource, "count", None)
    assert len(make(tmp_path, None)) == 4


@pytest.mark.parametrize("index", [-1, 6])
def test_an_index_out_of_range_is_refused(tmp_path, written, index):
    with pytest.raises(IndexError) as error:
        make(tmp_path, 4)[index]
    assert str(error.value) == f"There is no sample {index}: the dataset has 6, numbered from 0."


@pytest.mark.parametrize("clip_length", [0, -1, 2.0, "16"])
def test_an_invalid_clip_length_is_refused(clip_length):
    with pytest.raises(ValueError) as error:
        make("none", clip_length, videos=[])
    assert str(error.value) == f"clip_length={clip_length!r}: expected an integer, 1 or more."


def test_the_repr_names_root_split_and_counts(tmp_path, written, monkeypatch):
    expected = f"Annotated(root={tmp_path.name!r}, subset='test', split=1, videos=4, clips=6)"
    assert repr(make(tmp_path, 4, Annotated)) == expected
    monkeypatch.chdir(tmp_path)
    assert repr(make(".", 4, Annotated)) == expected
    single = VideoDataset(tmp_path, "train", None, CLASSES, [], 4)
    assert repr(single) == (
        f"VideoDataset(root={tmp_path.name!r}, subset='train', videos=0, clips=0)"
    )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_workers_return_the_same_samples(tmp_path, written):
    annotated = pickle.loads(pickle.dumps(make(tmp_path, 4, Annotated)))
    for dataset in (annotated, make(tmp_path, 4)):
        loaded = list(DataLoader(dataset, batch_size=None, num_workers=1))
        assert len(loaded) == len(dataset)
        for sample, expected in zip(loaded, dataset, strict=True):
            assert isinstance(sample, VideoClip)
            assert torch.equal(sample.clip, expected.clip)
            assert torch.equal(sample.boxes.nan_to_num(-1), expected.boxes.nan_to_num(-1))
            assert (sample.label, sample.video) == (expected.label, expected.video)
            assert sample.masks is None or torch.equal(sample.masks, expected.masks)


def test_importing_the_datasets_imports_nothing_heavy():
    """PIL comes with Captum, which brings matplotlib."""
    code = (
        "import sys, captum.attr, captum_3dcam; before = set(sys.modules); "
        "import captum_3dcam.datasets; "
        "print([m for m in sorted(set(sys.modules) - before) "
        "if m.startswith(('av', 'PIL', 'scipy.io', 'scipy.ndimage', 'scipy.stats'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
