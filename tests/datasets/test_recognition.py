"""UCF101 and HMDB51: videos and labels as written; errors of single videos."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from datasets_on_disk import ODD_NAME, write_hmdb51, write_ucf101, write_video
from torch.utils.data import DataLoader

from captum_3dcam.datasets import HMDB51, UCF101

BOTH = [(UCF101, write_ucf101), (HMDB51, write_hmdb51)]


# ----------------------------------------------------------------------------------- valid data


@pytest.mark.parametrize(("dataset", "write"), BOTH)
@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_every_video_is_as_it_was_written(tmp_path, dataset, write, subset, split):
    written = write(tmp_path)
    data = dataset(str(tmp_path), subset, split, clip_length=None)
    expected = [video for video in written if video.subsets[split - 1] == subset]
    assert data.classes == tuple(sorted({video.name.split("/")[0] for video in written}))
    assert data.videos == tuple(video.name for video in expected)
    assert data.labels == tuple(video.label for video in expected)
    assert len(data) == len(expected) > 0
    for sample, video in zip(data, expected, strict=True):
        assert (sample.video, sample.label) == (video.name, video.label)
        assert data.classes[sample.label] == video.name.split("/")[0]
        pixels = (sample.clip * 255).round().movedim(0, -1).numpy()
        assert np.array_equal(pixels, video.pixels)
        assert sample.boxes.shape == (0, len(video.pixels), 4)
        assert sample.masks is None
    assert data.check() == []


def test_the_repr(tmp_path):
    write_hmdb51(tmp_path)
    assert repr(HMDB51(tmp_path)) == (
        f"HMDB51(root={tmp_path.name!r}, subset='test', split=1, videos=3, clips=4)"
    )


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_clips_of_sixteen_frames(tmp_path, dataset, write):
    written = [video for video in write(tmp_path) if video.subsets[0] == "test"]
    data = dataset(tmp_path)
    assert [len(video.pixels) for video in written] == [7, 20, 16]
    assert [(sample.video, sample.frames[0].item()) for sample in data] == [
        (written[0].name, 0), (written[1].name, 0), (written[1].name, 16), (written[2].name, 0),
    ]  # fmt: skip
    assert [sample.padded.sum().item() for sample in data] == [9, 0, 12, 0]
    assert all(sample.boxes.shape == (0, 16, 4) for sample in data)


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_video_files_are_read_alike(tmp_path, dataset, write):
    pytest.importorskip("av")
    written = write(tmp_path)
    expected = [sample.clip for sample in dataset(tmp_path)]
    for video in written:
        shutil.rmtree(tmp_path / video.name)
        write_video(tmp_path / f"{video.name}.avi", video.pixels)
    data = dataset(tmp_path)
    assert len(data) == len(expected)
    assert all(torch.equal(sample.clip, clip) for sample, clip in zip(data, expected, strict=True))
    assert data.check() == []


def test_subsets_are_disjoint_and_unused_videos_in_neither(tmp_path):
    written = write_hmdb51(tmp_path)
    for split in (1, 2, 3):
        train, test = (set(HMDB51(tmp_path, name, split).videos) for name in ("train", "test"))
        unused = {video.name for video in written if video.subsets[split - 1] == "unused"}
        assert not train & test
        assert train | test | unused == {video.name for video in written}
    assert unused


@pytest.mark.parametrize("folder", ["splits", "."])
def test_folders_for_the_splits_of_hmdb51(tmp_path, folder):
    write_hmdb51(tmp_path)
    videos = HMDB51(tmp_path).videos
    (tmp_path / folder).mkdir(exist_ok=True)
    for path in (tmp_path / "testTrainMulti_7030_splits").iterdir():
        shutil.move(path, tmp_path / folder)
    assert HMDB51(tmp_path).videos == videos != ()


def test_the_lists_of_ucf101_may_be_beside_the_videos(tmp_path):
    write_ucf101(tmp_path)
    videos = UCF101(tmp_path).videos
    for path in (tmp_path / "ucfTrainTestlist").iterdir():
        shutil.move(path, tmp_path)
    assert UCF101(tmp_path).videos == videos != ()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_workers_return_the_same_samples(tmp_path, dataset, write):
    write(tmp_path)
    data = pickle.loads(pickle.dumps(dataset(tmp_path)))
    loaded = list(DataLoader(data, batch_size=None, num_workers=1))
    for sample, expected in zip(loaded, data, strict=True):
        assert torch.equal(sample.clip, expected.clip)
        assert (sample.video, sample.label) == (expected.video, expected.label)


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_invalid_arguments_are_refused(tmp_path, dataset, write):
    write(tmp_path)
    for keywords, message in (
        ({"subset": "val"}, "subset='val' is not known. Choose one of 'train', 'test'."),
        ({"split": 0}, "split=0 is not known. Choose one of 1, 2, 3."),
        ({"clip_length": 0}, "clip_length=0: expected an integer, 1 or more"),
    ):
        with pytest.raises(ValueError) as error:
            dataset(tmp_path, **keywords)
        assert str(error.value).startswith(message)


def test_the_error_names_a_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file 'classInd.txt' in '.*ucfTrain"):
        UCF101(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no file '\?\*_test_split1.txt' in '.*splits' or"):
        HMDB51(tmp_path)
    write_ucf101(tmp_path)
    (tmp_path / "ucfTrainTestlist" / "testlist02.txt").unlink()
    with pytest.raises(FileNotFoundError, match="There is no list of videos '.*testlist02.txt'"):
        UCF101(tmp_path, split=2)


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_check_returns_all_problems(tmp_path, dataset, write):
    first, second, third = (video for video in write(tmp_path) if video.subsets[0] == "test")
    shutil.rmtree(tmp_path / first.name)
    (tmp_path / second.name / "00003.png").unlink()
    (tmp_path / third.name / "00016.png").write_bytes(b"")
    data = dataset(tmp_path)
    problems = data.check()
    assert [problem.path for problem in problems] == [
        tmp_path / f"{first.name}.avi",
        tmp_path / second.name,
        tmp_path / third.name / "00016.png",
    ]
    for video in (first, second, third):
        index = [data.videos[clip.video] for clip in data.clips].index(video.name)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            data[index]
        assert ODD_NAME in str(error.value) or "v_" in str(error.value)
        assert str(error.value) in [str(problem) for problem in problems]
