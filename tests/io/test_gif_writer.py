"""GIF files: their palette, their size and what players show of them."""

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image, ImageSequence

from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import _gif_writer, write_video


def moving_spot(length=12, height=48, width=64):
    """A colourful ramp, on which a heat spot moves and fades in, above a constant area."""
    ramp = np.stack(np.meshgrid(np.linspace(0, 1, width), np.linspace(1, 0, height)), axis=-1)
    ramp = np.concatenate([ramp, ramp[..., :1] / 2], axis=-1)
    y, x = np.mgrid[:height, :width]
    frames = []
    for t in range(length):
        heat = t / length * np.exp(-((y - 20) ** 2 + (x - 8 - 4 * t) ** 2) / 60)
        blended = ramp + np.sqrt(heat)[..., None] * (colormaps["inferno"](heat)[..., :3] - ramp)
        blended[40:] = (200 / 255, 70 / 255, 31 / 255)
        frames.append((255 * blended).round().astype(np.uint8))
    return np.stack(frames)


def read_gif(path):
    """The frames as they are shown, (T, H, W, 3)."""
    with Image.open(path) as image:
        frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    return np.stack(frames).astype(int)


def color_tables(path):
    """Of a GIF's bytes: whether it has a global table of colours, and each frame's own table."""
    data = path.read_bytes()
    has_global, position = bool(data[10] & 128), 13
    position += 3 * 2 ** ((data[10] & 7) + 1) * has_global
    local = []

    def end_of_blocks(position):
        while data[position]:
            position += data[position] + 1
        return position + 1

    while data[position] != ord(";"):
        if data[position] == ord("!"):
            position = end_of_blocks(position + 2)
        else:
            assert data[position] == ord(",")
            flags = data[position + 9]
            local.append(bool(flags & 128))
            position += 10 + 3 * 2 ** ((flags & 7) + 1) * local[-1]
            position = end_of_blocks(position + 1)
    assert position == len(data) - 1
    return has_global, local


def test_all_frames_have_one_palette_and_a_constant_area_one_colour(tmp_path):
    frames = moving_spot()
    write_video(frames, tmp_path / "spot.gif", 10)
    assert color_tables(tmp_path / "spot.gif") == (True, [False] * 12)
    shown = read_gif(tmp_path / "spot.gif")
    assert (shown[:, 40:] == shown[0, 40, 0]).all()
    assert np.abs(shown[0, 40, 0] - (200, 70, 31)).max() <= 2
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 256


def test_colours_of_all_frames_are_in_the_palette(tmp_path):
    """Also of a small hot spot that only the last frames have."""
    frames = moving_spot()
    write_video(frames, tmp_path / "spot.gif", 10)
    error = np.linalg.norm(read_gif(tmp_path / "spot.gif") - frames, axis=-1)
    assert error.mean() < 9
    hot = frames[-1, :40, :, 0].astype(int) - frames[-1, :40, :, 2] > 150
    assert error[-1, :40][hot].mean() < 20


def test_256_colours_are_kept(tmp_path):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.stack([levels, levels.T // 8 * 8, 255 - levels], axis=-1)
    frames = np.stack([colours[:, ::-1], colours])
    write_video(frames, tmp_path / "colours.gif", 10)
    assert np.abs(read_gif(tmp_path / "colours.gif") - frames).max() <= 4


@pytest.mark.parametrize("in_memory", [1, 2**26])
def test_frames_are_not_kept_in_memory(tmp_path, in_memory, monkeypatch):
    """They go to a temporary file, which leaves nothing behind."""
    monkeypatch.setattr(_gif_writer, "_MAX_IN_MEMORY", in_memory)
    frames = moving_spot(5)
    write_video(iter(frames), tmp_path / "spot.gif", 10)
    assert read_gif(tmp_path / "spot.gif").shape == frames.shape
    assert [path.name for path in tmp_path.iterdir()] == ["spot.gif"]


def test_only_what_changes_is_stored(tmp_path):
    noise = np.random.default_rng(0).integers(0, 64, (64, 64, 1), dtype=np.uint8).repeat(3, axis=2)
    frames = np.repeat(noise[None], 20, axis=0)
    frames[np.arange(20), 10, np.arange(20)] = 255
    write_video(frames, tmp_path / "moving.gif", 10)
    write_video(frames[:1], tmp_path / "still.gif", 10)
    sizes = [(tmp_path / name).stat().st_size for name in ("still.gif", "moving.gif")]
    assert sizes[1] < sizes[0] + 20 * 60
    assert np.abs(read_gif(tmp_path / "moving.gif") - frames).max() <= 2


def test_equal_frames_are_one_up_to_the_maximum_of_a_frame(tmp_path):
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    frames[4] = 255
    write_video(frames, tmp_path / "held.gif", FrameTimes([0.0, 300, 600, 900, 1000, 1001]))
    with Image.open(tmp_path / "held.gif") as image:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
    assert durations == [600_000, 400_000, 1000]
