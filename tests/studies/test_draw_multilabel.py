"""The figure for and against several actions: what it draws, and of which moment."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from untrimmed_on_disk import write_lit_video, write_multithumos

import draw_multilabel as multilabel
import paper_tables
from captum_3dcam import CounterfactualCAM3D, GlobalLocalCAM3D
from captum_3dcam.datasets import MultiTHUMOS
from captum_3dcam.models import Preprocessing
from captum_3dcam.visualization import visualize_attr_panels

pytestmark = pytest.mark.usefixtures("one_thread")

INSTANCES = {
    "Diving": [("video_test_0000006", 1.0, 3.0), ("video_test_0000007", 0.0, 1.0)],
    "Run": [("video_test_0000006", 2.0, 4.0)],
    "Jump": [("video_test_0000006", 2.2, 2.5), ("video_test_0000006", 4.5, 4.8)],
}


@pytest.fixture
def drawn(monkeypatch):
    """The maps and names that the figure was drawn of."""
    calls = []

    def keep(maps, original, names, **options):
        calls.append((maps, original, names))
        return visualize_attr_panels(maps, original, names, **options)

    monkeypatch.setattr(multilabel, "visualize_attr_panels", keep)
    return calls


def test_for_and_against_the_actions_of_two_actors(tmp_path, drawn, capsys):
    multilabel.main(["--output", str(tmp_path)])
    with Image.open(tmp_path / "multilabel.png") as image:
        assert min(image.size) > 300
    ((maps, _, names),) = drawn
    scene = multilabel.synthetic_scene(multilabel.parse([]))
    first, second = scene.classes
    assert [name.split(" (")[0] for name in names] == [
        f"for {first}", f"against {first}", f"for {second}", f"against {second}",
    ]  # fmt: skip
    for number, label in enumerate(scene.classes.values()):
        for offset, method in enumerate((GlobalLocalCAM3D, CounterfactualCAM3D)):
            expected = method(scene.network, scene.layers).attribute(scene.inputs, target=label)
            torch.testing.assert_close(maps[2 * number + offset], expected[0, 0])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5
    own = maps[0][scene.masks[0]].sum() / maps[0].sum()
    assert printed[0].startswith(f"{names[0]}: {own:.0%} on its actor (chance ")


class Bright(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv3d(3, classes, 1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(x)).mean(dim=(2, 3, 4))


@pytest.fixture
def multithumos(tmp_path, monkeypatch):
    pytest.importorskip("av")

    def build(classes, checkpoint=None):
        return paper_tables.Network(
            Bright(classes).eval(), {"relu": "relu"}, Preprocessing(size=(12, 16)), True
        )

    monkeypatch.setitem(paper_tables.NETWORKS, "i3d", build)
    write_multithumos(tmp_path / "data", INSTANCES)
    write_lit_video(tmp_path / "v" / "video_test_0000006.mkv", [(0, 2.0, 4.0)], seconds=5)
    return ["--root", str(tmp_path / "data"), "--videos", str(tmp_path / "v")]


def test_the_moment_at_which_most_actions_overlap(multithumos, tmp_path, drawn):
    multilabel.main([*multithumos, "--output", str(tmp_path)])
    ((maps, frames, names),) = drawn
    assert [name.split(" (")[0] for name in names] == [
        f"{kind} {name}" for name in ("Diving", "Run", "Jump") for kind in ("for", "against")
    ]
    assert all(heat.shape == (16, 12, 16) for heat in maps)
    assert frames.shape == (16, 24, 32, 3)
    # From 2.2 s on at 20 frames per second: the lamp is lit.
    assert (frames[:, 10, 10, 0] == 240).all()


def test_a_video_and_a_time(multithumos, tmp_path, drawn):
    more = ["--video", "video_test_0000006", "--start", "0.4", "--output", str(tmp_path)]
    multilabel.main([*multithumos, *more])
    ((_, _, names),) = drawn
    assert [name.split(" (")[0] for name in names] == ["for Diving", "against Diving"]
    with pytest.raises(SystemExit, match=r"No action of 'video_test_0000006' is annotated from 0 "):
        multilabel.main([*multithumos, *more[:2], "--start", "0", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"has no 16 frames from 4.6 s on"):
        multilabel.main([*multithumos, *more[:2], "--start", "4.6", "--output", str(tmp_path)])


def test_no_video(multithumos, tmp_path):
    with pytest.raises(SystemExit, match=r"There is no video 'golf'\. --videos is the folder"):
        multilabel.main([*multithumos, "--video", "golf"])
    items = list(MultiTHUMOS(tmp_path / "data", videos=Path("nowhere")))
    with pytest.raises(SystemExit, match="No annotated video has a file"):
        multilabel.choose_moment(items, None, None)
    item, start = multilabel.choose_moment(items, "video_test_0000007", None)
    assert (item.video, start) == ("video_test_0000007", 0.0)


def test_which_segments_overlap():
    segments = torch.from_numpy(np.array([[0.0, 1.0], [1.0, 2.0], [2.5, 3.0]]))
    assert multilabel.overlap(segments, 0.5, 1.5).tolist() == [True, True, False]
