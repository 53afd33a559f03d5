"""THUMOS14 and MultiTHUMOS: segments as written; errors that name the file and the line."""

import pytest
import torch
from datasets_on_disk import write_images
from untrimmed_on_disk import MULTI, THUMOS, write_lit_video, write_multithumos, write_thumos

from captum_3dcam.datasets import THUMOS14, MultiTHUMOS, UntrimmedVideo

BOTH = [(THUMOS14, write_thumos), (MultiTHUMOS, write_multithumos)]


def rows_of(data):
    """{video: sorted rows (class, start, end)}."""
    return {
        item.video: sorted(
            (data.classes[label], *segment)
            for label, segment in zip(item.labels.tolist(), item.segments.tolist(), strict=True)
        )
        for item in data
    }


def expected_rows(instances, videos):
    return {
        video: sorted(
            (name, start, end)
            for name, rows in instances.items()
            for v, start, end in rows
            if v == video and name != "Ambiguous"
        )
        for video in videos
    }


# ----------------------------------------------------------------------------------- valid data


def test_thumos_is_as_written(tmp_path):
    write_thumos(tmp_path)
    data = THUMOS14(str(tmp_path))
    videos = ("video_test_0000006", "video_test_0000011", "video_test_0001292")
    assert (data.classes, data.videos, len(data)) == (("CliffDiving", "Diving"), videos, 3)
    assert rows_of(data) == expected_rows(THUMOS, videos)
    first, second, last = data
    assert isinstance(first, UntrimmedVideo)
    assert (first.segments.dtype, first.labels.dtype) == (torch.float64, torch.int64)
    assert first.ignored.tolist() == [[5.0, 5.6]]
    assert second.ignored.shape == (0, 2)
    assert (last.segments.shape, last.labels.shape) == ((0, 2), (0,))
    assert last.ignored.tolist() == [[0.0, 1.0]]
    assert first.target.keys() == {"segments", "labels"}
    # Two classes at the same time: CliffDiving is Diving too.
    assert first.segments[:2].tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert sorted(first.labels[:2].tolist()) == [0, 1]


def test_multithumos_is_as_written(tmp_path):
    write_multithumos(tmp_path)
    for subset, videos in (
        ("test", ("video_test_0000006", "video_test_0000011")),
        ("val", ("video_validation_0000051",)),
    ):
        data = MultiTHUMOS(tmp_path, subset)
        assert data.classes == ("Diving", "Run", "Jump")
        assert data.videos == videos
        assert rows_of(data) == expected_rows(MULTI, videos)
        assert all(item.ignored.shape == (0, 2) for item in data)
    overlapping = MultiTHUMOS(tmp_path)[0].segments
    assert (overlapping[1:, 0] < overlapping[:-1, 1]).all()


@pytest.mark.parametrize(
    "folder",
    [
        "annotation",
        "annotations",
        "annotations/annotation",
        "TH14_Temporal_Annotations_Test/annotations/annotation",
        ".",
    ],
)
def test_the_folders_of_the_published_archives(tmp_path, folder):
    path = tmp_path / folder / "Diving_test.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("video_test_0000006 1.0 2\r\n\r\n")
    assert rows_of(THUMOS14(tmp_path)) == {"video_test_0000006": [("Diving", 1.0, 2.0)]}


def test_the_archive_of_validation(tmp_path):
    path = tmp_path / "TH14_Temporal_annotations_validation" / "annotation" / "Diving_val.txt"
    path.parent.mkdir(parents=True)
    path.write_text("video_validation_0000051  0.4 9.1\n")
    assert THUMOS14(tmp_path, "val")[0].segments.tolist() == [[0.4, 9.1]]


def test_multithumos_in_its_folder_and_with_names_alone(tmp_path):
    write_multithumos(tmp_path / "multithumos")
    (tmp_path / "multithumos" / "class_list.txt").write_text("Run\nJump\nDiving\n")
    assert MultiTHUMOS(tmp_path).classes == ("Run", "Jump", "Diving")
    (tmp_path / "multithumos" / "class_list.txt").write_text("0 Run\n1 Jump\n2 Diving\n")
    assert MultiTHUMOS(tmp_path).classes == ("Run", "Jump", "Diving")


@pytest.mark.parametrize(("dataset", "write"), BOTH)
def test_the_repr(tmp_path, dataset, write):
    write(tmp_path)
    data = dataset(tmp_path)
    assert repr(data) == (
        f"{dataset.__name__}(root={tmp_path.name!r}, subset='test', videos={len(data)}, "
        f"classes={len(data.classes)})"
    )
    with pytest.raises(IndexError, match="There is no sample 9"):
        data[9]


# --------------------------------------------------------------------------------------- videos


def test_where_the_videos_are(tmp_path):
    pytest.importorskip("av")
    write_thumos(tmp_path / "data")
    data = THUMOS14(tmp_path / "data")
    assert data[0].path == tmp_path / "data" / "videos" / "video_test_0000006.mp4"
    other = THUMOS14(tmp_path / "data", videos=tmp_path / "other")
    write_lit_video(tmp_path / "other" / "video_test_0000006.mkv", [], seconds=1)
    assert other[0].path == tmp_path / "other" / "video_test_0000006.mkv"
    write_images(tmp_path / "other" / "video_test_0000011", [[[[0, 0, 0]]]] * 0)
    (tmp_path / "other" / "video_test_0000011").mkdir()
    assert other[1].path == tmp_path / "other" / "video_test_0000011"


def test_what_is_wrong_is_reported(tmp_path):
    pytest.importorskip("av")
    instances = {
        "Diving": [
            ("video_test_0000001", 0.5, 1.5),
            ("video_test_0000002", 0.5, 4.0),
            ("video_test_0000003", 1.0, 1.0),
        ]
    }
    write_thumos(tmp_path, instances)
    for number in (1, 2):
        write_lit_video(tmp_path / "videos" / f"video_test_000000{number}.mkv", [], seconds=2)
    (tmp_path / "videos" / "video_test_0000003.mp4").write_bytes(b"no video")
    short, empty, damaged = map(str, THUMOS14(tmp_path).check())
    file = str(tmp_path / "videos" / "video_test_0000002.mkv")
    assert short == f"{file!r} ends after 2.0 s; an action is annotated until 4.0 s."
    assert empty == "'video_test_0000003': the segment from 1 to 1 s is empty."
    assert "video_test_0000003.mp4' cannot be read as a video" in damaged
    (tmp_path / "videos" / "video_test_0000003.mp4").unlink()
    assert str(THUMOS14(tmp_path).check()[-1]).startswith("There is no video '")


# --------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("video_test_0000006 1.0", "expected a video, and the start and end of an action"),
        ("video_test_0000006 1.0 x", "expected a video, and the start and end of an action"),
        ("video_test_0000006 nan 2.0", "expected a video, and the start and end of an action"),
        ("video_test_0000006 -1.0 2.0", "expected a video, and the start and end of an action"),
        ("../video 1.0 2.0", "is not a path inside the dataset's folder"),
        ("video_test_0000006 2.5 1.5", "the action ends at 1.5 s, before 2.5 s"),
    ],
)
def test_malformed_lines(tmp_path, line, message):
    for name, read in (
        ("Diving_test.txt", THUMOS14),
        ("annotations/Diving.txt", MultiTHUMOS),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"video_test_0000006 0.0 1.0\n{line}\n")
        (tmp_path / "class_list.txt").write_text("1 Diving\n")
        with pytest.raises(ValueError, match=message) as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{str(path)!r}, line 2: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Diving\n3 Run\n", "line 2: expected the number 2; got '3 Run'"),
        ("1 Diving\nRun\n", "line 2: expected the number 2; got 'Run'"),
        ("1 Diving\n2 Diving\n", "line 2: 'Diving' is listed twice"),
        ("1 Diving\nx Run\n", "line 2: expected a number and a class"),
        ("1 ../Diving\n", "is not a path inside the dataset's folder"),
    ],
)
def test_malformed_lists_of_classes(tmp_path, text, message):
    write_multithumos(tmp_path)
    (tmp_path / "class_list.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        MultiTHUMOS(tmp_path)


def test_missing_annotations(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file '\?\*_test.txt' in "):
        THUMOS14(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file 'class_list.txt' in "):
        MultiTHUMOS(tmp_path)
    (tmp_path / "class_list.txt").write_text("1 Diving\n")
    with pytest.raises(FileNotFoundError, match=r"Diving\.txt"):
        MultiTHUMOS(tmp_path)


@pytest.mark.parametrize("dataset", [THUMOS14, MultiTHUMOS])
def test_an_unknown_subset(tmp_path, dataset):
    with pytest.raises(ValueError, match="subset='train'"):
        dataset(tmp_path, "train")
