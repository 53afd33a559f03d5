"""Optical flow and its preprocessing: motions that are known, and displacements by hand."""

import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_3dcam import explain
from captum_3dcam.explanation import Reading
from captum_3dcam.explanation._video import VideoSource
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import Video, open_video
from captum_3dcam.models import FlowPreprocessing, Preprocessing, optical_flow

SIZE = (48, 64)


@pytest.fixture(autouse=True)
def registration():
    return pytest.importorskip("skimage.registration")


def moving_texture(dx: float, dy: float, frames: int = 3, size=SIZE) -> torch.Tensor:
    """(3, T, H, W): a smooth texture that moves by (dx, dy) pixels per frame."""
    coarse = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    canvas = F.interpolate(coarse, (256, 256), mode="bicubic", align_corners=True).clamp(0, 1)
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in size), indexing="ij")
    shown = []
    for t in range(frames):
        # What is at (x, y) was at (x - t dx, y - t dy).
        x, y = columns - t * dx + 90, rows - t * dy + 90
        grid = torch.stack([x, y], dim=-1) / 127.5 - 1
        shown.append(F.grid_sample(canvas, grid[None], align_corners=True)[0])
    return torch.stack(shown, dim=1)


def inner(flow):
    """Away from the edges, where what enters the frame has no match."""
    return flow[..., 8:-8, 8:-8]


@pytest.mark.parametrize(("dx", "dy"), [(2.0, 0.0), (0.0, -1.5), (-1.0, 2.5), (0.0, 0.0)])
def test_the_flow_is_the_motion_along_x_and_then_along_y(dx, dy):
    flow = optical_flow(moving_texture(dx, dy))
    assert (flow.shape, flow.dtype) == ((2, 3, *SIZE), torch.float32)
    for channel, expected in enumerate((dx, dy)):
        for frame in inner(flow[channel]):
            assert (frame - expected).abs().mean() < 0.25
    assert torch.equal(flow[:, -1], flow[:, -2])


def test_each_frame_leads_to_the_next_one():
    """Sampled where the flow points to, the next frame is this one."""
    frames = moving_texture(1.5, -2.0)
    flow = optical_flow(frames)
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in SIZE), indexing="ij")
    x, y = columns + flow[0, 0], rows + flow[1, 0]
    grid = torch.stack([x / (SIZE[1] - 1), y / (SIZE[0] - 1)], dim=-1) * 2 - 1
    warped = F.grid_sample(frames[None, :, 1], grid[None], align_corners=True)[0]
    assert inner(warped - frames[:, 0]).abs().mean() < 0.01
    assert inner(frames[:, 1] - frames[:, 0]).abs().mean() > 0.03


def test_bytes_are_as_floats():
    frames = (moving_texture(1.0, 0.0, frames=2) * 255).round()
    torch.testing.assert_close(optical_flow(frames.to(torch.uint8)), optical_flow(frames / 255))


def test_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.registration", None)
    with pytest.raises(ImportError) as error:
        optical_flow(torch.rand(3, 2, 8, 8))
    assert str(error.value) == (
        "Optical flow needs scikit-image: pip install 'captum_3dcam[flow]'."
    )


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (torch.rand(3, 1, 8, 8), ValueError, "Expected two frames or more"),
        (torch.rand(1, 3, 2, 8, 8), ValueError, r"Expected RGB frames \(3, T, H, W\), not empty"),
        (torch.rand(2, 4, 8, 8), ValueError, r"Expected RGB frames \(3, T, H, W\), not empty"),
        (torch.rand(3, 2, 8, 8) * 255, ValueError, "Divide them by 255"),
        (torch.zeros(3, 2, 8, 8).long(), TypeError, "Expected RGB as torch.uint8"),
    ],
)
def test_frames_that_are_refused(frames, error, message):
    with pytest.raises(error, match=message):
        optical_flow(frames)


# ------------------------------------------------------------------------------ preprocessing

DISPLACEMENT = st.floats(-60, 60, width=32)


@settings(max_examples=30)
@given(
    dx=DISPLACEMENT,
    dy=DISPLACEMENT,
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    bound=st.floats(1, 50),
)
def test_displacements_grow_with_the_frames_and_are_clipped_and_scaled(dx, dy, size, bound):
    flow = torch.tensor([dx, dy])[:, None, None, None].expand(2, 3, 12, 20)
    prepared = FlowPreprocessing(size=size, bound=bound)(flow)
    assert prepared.shape == (2, 3, *size)
    for channel, moved in enumerate((dx * size[1] / 20, dy * size[0] / 12)):
        expected = max(-bound, min(bound, moved)) / bound
        torch.testing.assert_close(
            prepared[channel], torch.full((3, *size), expected), rtol=1e-4, atol=1e-5
        )


def test_a_flow_of_its_size_is_only_clipped_and_scaled():
    flow = torch.randn(2, 3, 8, 8) * 20
    prepare = FlowPreprocessing()
    assert torch.equal(prepare(flow), flow.clamp(-20, 20) / 20)
    torch.testing.assert_close(prepare.restore(prepare(flow)), flow.clamp(-20, 20))


def test_the_crop_is_the_centre():
    flow = torch.randn(2, 2, 16, 24)
    prepare, resize = FlowPreprocessing(size=32, crop=20), FlowPreprocessing(size=32)
    assert torch.equal(prepare(flow), resize(flow)[..., 6:26, 14:34])
    assert prepare.geometry((16, 24)) == Preprocessing(size=32, crop=20).geometry((16, 24))
    box = torch.tensor([3.0, 2.0, 10.0, 9.0])
    torch.testing.assert_close(
        prepare.boxes_to_input(box, (16, 24)),
        Preprocessing(size=32, crop=20).boxes_to_input(box, (16, 24)),
    )


def test_frames_are_resized_before_their_flow_is_computed():
    frames = moving_texture(2.0, 0.0)
    prepared = FlowPreprocessing(size=(24, 32))(frames)
    expected = optical_flow(Preprocessing(size=(24, 32))(frames)) / 20
    torch.testing.assert_close(prepared, expected.clamp(-1, 1))
    assert (prepared[0, :, 4:-4, 4:-4] * 20).mean() == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bound": 0}, "bound=0"),
        ({"bound": -1.0}, "bound=-1"),
        ({"size": 0}, "size=0: expected a positive integer"),
        ({"crop": "all"}, "crop='all': expected a positive integer"),
    ],
)
def test_values_that_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FlowPreprocessing(**values)


def test_clips_that_are_refused():
    with pytest.raises(ValueError, match=r"Expected RGB frames .* or a flow \(2, T, H, W\)"):
        FlowPreprocessing()(torch.rand(1, 2, 3, 8, 8))
    with pytest.raises(ValueError, match="are smaller"):
        FlowPreprocessing(crop=20)(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="floating-point"):
        FlowPreprocessing()(torch.zeros(2, 3, 8, 8, dtype=torch.int64))


# ------------------------------------------------------------------------------------ explain


class MovesRight(torch.nn.Module):
    """Two scores: how much moves to the right, and to the left."""

    PREPROCESSING = FlowPreprocessing(size=(32, 32), bound=4.0)

    def __init__(self):
        super().__init__()
        self.split = torch.nn.Conv3d(2, 2, 1, bias=False)
        self.split.weight.data = torch.tensor([[1.0, 0], [-1.0, 0]])[:, :, None, None, None]
        self.relu = torch.nn.ReLU()

    def forward(self, x):
        return self.relu(self.split(x)).square().mean(dim=(2, 3, 4))


def test_a_video_is_explained_by_its_flow(tmp_path):
    """Only the upper half moves: the map lies there, and over the whole frame."""
    from PIL import Image

    frames = torch.cat([moving_texture(2.0, 0.0), moving_texture(0.0, 0.0)], dim=-2)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate((frames * 255).byte().permute(1, 2, 3, 0).numpy()):
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    explanation = explain(
        MovesRight().eval(), folder, 0, layers="relu", method="HiResCAM", reading=Reading(fps=25)
    )
    heat = explanation.heat_map()
    above, below = heat.chunk(2, dim=-2)
    assert above.sum() > 20 * below.sum()
    assert "FlowPreprocessing(size=(32, 32)" in explanation.model["preprocessing"]


@pytest.mark.parametrize("frames", [17, 35, 40])
def test_a_long_video_has_the_flow_of_the_whole(tmp_path, frames):
    """Windows are read in chunks: a flow leads from each to the next, of one frame or more."""
    clip = moving_texture(1.0, 0.5, frames, (32, 40))
    clip = torch.cat([clip[:, ::2], clip[:, 1::2].flip(-1)], dim=1)  # no two flows are alike
    video = Video(
        (clip * 255).byte().permute(1, 2, 3, 0).numpy(), 25, FrameTimes.from_rate(frames, 25)
    )
    prepare = FlowPreprocessing(bound=4.0)
    source = VideoSource(open_video(video), prepare, torch.zeros(1), (), progress=False)
    for length in (16, 17, 8):
        chunks = list(source._chunks(length))
        assert [chunk.shape[1] for chunk in chunks][:-1] == [length] * (len(chunks) - 1)
        whole = prepare(torch.from_numpy(video.frames).movedim(-1, 0))
        torch.testing.assert_close(torch.cat(chunks, dim=1), whole)
