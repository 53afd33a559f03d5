"""What kind of input a path is, and how its content is read."""

from pathlib import Path

import numpy as np
import pytest
from explanation_inputs import AFFINE, frames, pixels, write_images
from PIL import Image

from captum_3dcam.explanation import ArgumentError, Reading
from captum_3dcam.explanation._reading import (
    find_kind,
    read_frames,
    read_pixels,
    read_scan,
    without_names,
)
from captum_3dcam.io import Sampling, Volume, write_nifti

pytestmark = pytest.mark.usefixtures("folder")


def test_the_kind_is_that_of_the_content_unless_it_is_given():
    Image.fromarray(pixels()).save("image.dcm", "png")
    write_images("frames", frames())
    assert find_kind(Path("image.dcm"), None) == "image"
    assert find_kind(Path("frames"), None) == "video"
    assert find_kind(Path("frames"), "image") == "image"


def test_what_has_no_kind():
    with pytest.raises(FileNotFoundError, match=r"There is no file or folder 'missing\.png'\."):
        find_kind(Path("missing.png"), None)
    Path("notes.txt").write_text("no image")
    with pytest.raises(ArgumentError, match=r"'notes\.txt' is text, .*\(kind=image\|video\|volume"):
        find_kind(Path("notes.txt"), None)


def test_pixels():
    Image.fromarray(pixels()).save("image.png")
    np.testing.assert_array_equal(read_pixels(Path("image.png"), Reading()), pixels())
    write_images("frames", frames())
    with pytest.raises(ArgumentError, match="kind=image: the folder 'frames' has no DICOM image"):
        read_pixels(Path("frames"), Reading())


def test_frames():
    path = Path(write_images("frames", frames()))
    video = read_frames(path, Sampling(stride=2), Reading(fps=4.0))
    np.testing.assert_array_equal(np.stack(list(video)), frames()[::2])
    np.testing.assert_allclose(video.times.edges, [0, 0.5, 1, 1.5, 2])


@pytest.fixture
def four_channels():
    pytest.importorskip("nibabel")
    data = np.random.default_rng(0).random((4, 5, 6, 7), dtype=np.float32)
    write_nifti(Volume(data, AFFINE), "case.nii")
    for number, channel in enumerate(data):
        write_nifti(Volume(channel, AFFINE), f"channel_{number}.nii")
    return data


def test_as_many_volumes_as_the_model_has_channels(four_channels):
    path = Path("case.nii")
    np.testing.assert_allclose(read_scan(path, 4, Reading()).data, four_channels)
    np.testing.assert_allclose(read_scan(path, 1, Reading(index=2)).data, four_channels[2])
    np.testing.assert_allclose(read_scan(path, 1, Reading(index="all")).data, four_channels)
    with pytest.raises(ValueError, match="it has 4 volumes on its last axis"):
        read_scan(path, 1, Reading())


def test_channels_in_files_of_their_own(four_channels):
    more = [f"channel_{number}.nii" for number in (1, 2, 3)]
    scan = read_scan(Path("channel_0.nii"), 4, Reading(channel_files=more))
    np.testing.assert_allclose(scan.data, four_channels)
    # A file of several volumes among them is not read as channels.
    with pytest.raises(ValueError, match="it has 4 volumes on its last axis"):
        read_scan(Path("case.nii"), 4, Reading(channel_files=more))


def test_a_series_is_of_dicom(four_channels):
    with pytest.raises(ArgumentError, match="series is for DICOM files"):
        read_scan(Path("channel_0.nii"), 1, Reading(series=1))


def test_messages_without_names():
    Path("jane_doe/scans").mkdir(parents=True)
    Path("jane_doe/scans/1970.dcm").touch()
    Path("doe.nii").touch()
    paths = [Path("jane_doe"), Path("doe.nii")]
    for text, expected in (
        ("'jane_doe/scans/1970.dcm' is cut, '1970.dcm'.", "the input is cut, the input."),
        ("'jane_doe': '1970' and 'doe.nii'", "the input: '1970' and the input"),
        ("a gantry tilt", "a gantry tilt"),
    ):
        assert without_names(text, paths) == expected
    absolute = Path("doe.nii").absolute()
    assert without_names(f"{str(absolute)!r} is cut", [absolute]) == "the input is cut"
