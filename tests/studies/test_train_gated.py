"""The study of gates: its data, training, accuracies, and a resumed run."""

import json
from collections import Counter

import pytest
import torch
from datasets_on_disk import write_hmdb51, write_ucf101
from torch import nn

import _gated_tasks
import train_gated
from _gated_tasks import FlowInput, Sample, SyntheticClips, Task
from captum_3dcam.datasets import ACTIONS, UCF101, SyntheticActions
from captum_3dcam.models import I3D, I3DFlow, LayerwiseGatedClassifier, ResNeXt3D, TwoStream
from train_gated import PAPER_RECIPE, SCALED_RECIPE

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = "--videos 4 --held-out 3 --size 32 --epochs 3 --batch 4 --step 2"
ROWS = ["--gates", "", "--gates", "stem,layer4"]


def run(folder, *more):
    options = [*OPTIONS.split(), *ROWS, "--seeds", "0", "--output", str(folder)]
    return train_gated.main([*options, *more])


def figures(folder):
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def weights(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=True)["network"]


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


# ------------------------------------------------------------------------------------ the data


def test_a_video_is_three_clips_of_one_action():
    clips, videos = SyntheticClips(9, 5, 32), SyntheticActions(9, 5, frames=48, size=32)
    assert len(clips) == 27
    for index in range(27):
        video, part = divmod(index, 3)
        sample = clips[index]
        assert torch.equal(sample.clip, videos[video].clip[:, 16 * part : 16 * (part + 1)])
        assert (sample.label, sample.video) == (video % len(ACTIONS), str(video))


def test_the_recipes():
    assert (PAPER_RECIPE.learning_rate, PAPER_RECIPE.step) == (0.001, 50)
    assert SCALED_RECIPE.learning_rate == 0.001


def test_which_layers_get_gates():
    assert train_gated.gate_sets([("a",), ("b",), ("c",)]) == [
        (),
        ("a",),
        ("b",),
        ("c",),
        ("b", "c"),
        ("a", "b", "c"),
    ]
    both = train_gated.gate_sets([("rgb.a", "flow.a"), ("rgb.b", "flow.b")])
    assert both == [
        (),
        ("rgb.a", "flow.a"),
        ("rgb.b", "flow.b"),
        ("rgb.a", "flow.a", "rgb.b", "flow.b"),
    ]


# ------------------------------------------------------------------------------ what is measured


class Given(nn.Module):
    """The logits of a clip are its first numbers."""

    def forward(self, x):
        return x.flatten(1)[:, :3]


def test_a_video_is_judged_by_the_mean_of_its_clips_softmax():
    """One certain clip outweighs two uncertain ones. A vote would differ, and so would the mean of
    the logits, which the softmax bounds."""
    clips = {
        "certain": [[5.0, 0, 0], [0, 0.2, 0], [0, 0.2, 0]],
        "bounded": [[99.0, 0, 0], [0, 9, 0], [0, 9, 0]],
        "wrong": [[0, 0, 1.0], [0, 0, 1.0]],
    }
    samples = [
        Sample(torch.tensor(row).float().reshape(3, 1, 1, 1), label, name)
        for (name, rows), label in zip(clips.items(), (0, 1, 1), strict=True)
        for row in rows
    ]
    task = Task("given", 3, {}, Given, lambda seed: samples, samples)
    clip, video = train_gated.accuracies(Given(), task, batch=2)
    assert clip == pytest.approx((1 + 2) / 8)
    assert video == pytest.approx(2 / 3)


def test_the_table_has_means_over_seeds_and_gains_over_no_gates():
    def made(clip, video):
        return {"clip": clip, "video": video, "parameters": 1234}

    results = [
        ("none", 0, made(0.5, 0.5)),
        ("a", 0, made(0.5, 0.75)),
        ("none", 1, made(0.75, 1.0)),
        ("a", 1, made(0.5, 1.0)),
    ]
    assert train_gated.summary(results) == (
        "| gates | parameters | clips | videos | videos, gain |\n"
        "|---|---|---|---|---|\n"
        "| none | 1,234 | 62.5 ± 17.7 | 75.0 ± 35.4 | |\n"
        "| a | 1,234 | 50.0 ± 0.0 | 87.5 ± 17.7 | 12.5 ± 17.7 |"
    )


# ------------------------------------------------------------------------------------ the runs


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gated")
    text = run(folder)
    torch.set_num_threads(before)
    return folder, text


def test_a_run_trains_and_measures_each_row(done):
    folder, text = done
    results = figures(folder)
    assert list(results) == ["none-0", "stem-layer4-0"]
    assert (folder / "table.md").read_text() == text + "\n"
    lines = text.partition("\n\n")[0].splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| none", "| stem + layer4"]
    backbone = results["none-0"]["parameters"]
    # The stem's gate has 16 channels and layer4's 64, pooled to 8 and 2 frames.
    gates = (16 * 8 + 1) * 8 + (64 * 2 + 1) * 8
    assert results["stem-layer4-0"]["parameters"] == backbone + gates
    assert results["none-0"]["settings"]["recipe"]["epochs"] == 3
    for row in results.values():
        assert 0 <= row["clip"] <= 1
        assert row["video"] * 3 == pytest.approx(round(row["video"] * 3))


def test_the_whole_network_is_trained(done):
    folder, _ = done
    before = _gated_tasks.load_action_net().state_dict()
    after = weights(folder, "stem-layer4-0")
    for name, value in before.items():
        if name.endswith("weight"):
            assert not torch.equal(value, after[f"backbone.{name}"]), name


def test_the_learning_rate_is_divided_by_ten_after_a_step(done):
    folder, _ = done
    state = torch.load(folder / "none-0.pt", weights_only=True)
    assert state["epoch"] == 3
    (group,) = state["optimizer"]["param_groups"]
    assert group["lr"] == pytest.approx(1e-4)
    assert (group["momentum"], group["weight_decay"]) == (0.9, 5e-4)


def test_a_finished_run_is_not_repeated(done, monkeypatch):
    folder, text = done
    monkeypatch.setattr(train_gated, "train", None)
    assert run(folder) == text


def test_the_files_of_other_settings_are_refused(done):
    folder, _ = done
    with pytest.raises(SystemExit, match=r"none-0.json is of a run with other settings"):
        run(folder, "--learning-rate", "0.1")


def test_a_stopped_run_resumes_to_the_same_weights(done, tmp_path, monkeypatch):
    folder, text = done
    epochs = Counter()
    save_epoch = train_gated.save_epoch

    def stop_after_one(path, state):
        save_epoch(path, state)
        epochs[path.stem] += 1
        if sum(epochs.values()) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_gated, "save_epoch", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert not list(tmp_path.glob("*.json"))
    assert run(tmp_path) == text
    assert epochs == {"none-0": 3, "stem-layer4-0": 3}
    for name in ("none-0", "stem-layer4-0"):
        assert same(weights(folder, name), weights(tmp_path, name))


def test_seeds_determine_videos_and_gates():
    options = dict.fromkeys(("videos", "held_out"), 2)
    task = train_gated.synthetic_task(
        type("Options", (), {**options, "size": 32, "checkpoint": None})
    )
    first, second = (task.train(seed)[0].clip for seed in (0, 1))
    assert not torch.equal(first, second)
    gates = [train_gated.build(task, ["layer4"], seed, "pool", "sum") for seed in (0, 0, 1)]
    assert isinstance(gates[0], LayerwiseGatedClassifier)
    assert same(gates[0].state_dict(), gates[1].state_dict())
    assert same(gates[0].backbone.state_dict(), gates[2].backbone.state_dict())
    assert not same(gates[0].gates.state_dict(), gates[2].gates.state_dict())


# -------------------------------------------------------------------------------- the folders


@pytest.mark.parametrize(
    "name, write, classes", [("ucf101", write_ucf101, 2), ("hmdb51", write_hmdb51, 2)]
)
def test_datasets_on_disk(name, write, classes, tmp_path, monkeypatch):
    write(tmp_path / "data")
    monkeypatch.setattr(_gated_tasks, "resnext101_3d", lambda c: ResNeXt3D((1, 1, 1, 1), c))
    checkpoint = tmp_path / "kinetics.pth"
    torch.save({"state_dict": ResNeXt3D((1, 1, 1, 1), 400).state_dict()}, checkpoint)
    arguments = ["--dataset", name, "--root", str(tmp_path / "data"), "--workers", "0"]
    arguments += ["--checkpoint", str(checkpoint), "--epochs", "1", "--seeds", "0"]
    text = train_gated.main([*arguments, "--gates", "layer4", "--output", str(tmp_path / "out")])
    assert "| layer4 |" in text
    result = figures(tmp_path / "out")["layer4-0"]
    assert result["settings"]["recipe"] == {**vars(PAPER_RECIPE), "epochs": 1}
    state = weights(tmp_path / "out", "layer4-0")
    assert state["backbone.fc.weight"].shape == (classes, 2048)


def test_a_dataset_needs_its_folder(capsys):
    with pytest.raises(SystemExit, match="--dataset hmdb51 needs --root, the folder"):
        train_gated.main(["--dataset", "hmdb51"])


# --------------------------------------------------------------------------- I3D and its streams


@pytest.fixture
def small_streams(monkeypatch):
    """I3D is large: streams of two convolutions with the names of its layers."""

    def make(network, channels):
        def build(classes):
            module = nn.Sequential()
            for number, name in enumerate(network.LAYERS.values()):
                width = channels if number == 0 else 4
                module.add_module(name, nn.Sequential(nn.Conv3d(width, 4, 3, 2, 1), nn.ReLU()))
            module.add_module("pool", nn.AdaptiveAvgPool3d(1))
            module.add_module("flat", nn.Flatten())
            module.add_module("logits", nn.Linear(4, classes))
            return module

        return build

    monkeypatch.setattr(_gated_tasks, "i3d", make(I3D, 3))
    monkeypatch.setattr(_gated_tasks, "i3d_flow", make(I3DFlow, 2))
    # The flow of a clip: the brightness of its frames, of which TV-L1 would take minutes.
    monkeypatch.setattr(_gated_tasks, "optical_flow", lambda clip: clip[:2] * 20)


def run_streams(tmp_path, stream, *more):
    if not (tmp_path / "data").exists():
        write_ucf101(tmp_path / "data")
    arguments = ["--dataset", "ucf101", "--root", str(tmp_path / "data"), "--workers", "0"]
    arguments += ["--model", "i3d", "--stream", stream, "--epochs", "1", "--seeds", "0"]
    return train_gated.main([*arguments, "--output", str(tmp_path / stream), *more])


@pytest.mark.parametrize("stream", ["rgb", "flow", "rgb+flow"])
@pytest.mark.usefixtures("small_streams")
def test_each_stream_is_trained_and_stands_beside_table_10(tmp_path, stream):
    """In both streams a level has two gates; the rows are those of the stream alone."""
    text = run_streams(tmp_path, stream)
    prefixes = ["rgb.", "flow."] if stream == "rgb+flow" else [""]

    def row(*names):
        return " + ".join(prefix + name for name in names for prefix in prefixes)

    ours, table = text.split("\n\n", 1)
    rows = [line.split(" | ")[0].removeprefix("| ") for line in ours.splitlines()[2:]]
    mixed = list(I3D.LAYERS.values())
    assert rows == ["none", *(row(name) for name in mixed), row(*mixed[1:]), row(*mixed)]
    assert table.startswith(f"Ours is of ucf101-1-i3d {stream}. Table 10 of the paper (I3D)")
    lines = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[4:]]
    expected = {
        "rgb": {
            "I3D (rgb)": "none",
            "I3D layer 3 (rgb)": mixed[2],
            "I3D layer 2 (rgb)": mixed[1],
            "I3D layer 1+2+3 (rgb)": row(*mixed),
            "I3D layer 2+3 (rgb)": row(*mixed[1:]),
        },
        "flow": {},
        "rgb+flow": {"I3D layer 3 (rgb + flow)": row(mixed[2])},
    }[stream]
    for name, own in expected.items():
        assert lines[lines.index(f"{name}, printed") - 1] == own
    assert len(lines) == 6 + len(expected)


@pytest.mark.usefixtures("small_streams")
def test_both_streams_are_two_networks_in_one(tmp_path):
    run_streams(tmp_path, "rgb+flow", "--gates", "rgb.Mixed_5c,flow.Mixed_5c")
    state = weights(tmp_path / "rgb+flow", "rgb.Mixed_5c-flow.Mixed_5c-0")
    assert state["backbone.rgb.Mixed_3c.0.weight"].shape[1] == 3
    assert state["backbone.flow.Mixed_3c.0.weight"].shape[1] == 2
    assert {name.split(".")[1] for name in state if name.startswith("gates")} == {"0", "1"}


@pytest.mark.usefixtures("small_streams")
def test_checkpoints_of_both_streams(tmp_path):
    options = type("Options", (), {"model": "i3d", "checkpoint": tmp_path / "rgb.pt"})
    options.flow_checkpoint = tmp_path / "flow.pt"
    trained = {"rgb": _gated_tasks.i3d(400), "flow": _gated_tasks.i3d_flow(400)}
    for name, network in trained.items():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")
        loaded = _gated_tasks._load(options, name, 5)
        assert torch.equal(loaded.Mixed_4f[0].weight, network.Mixed_4f[0].weight)
        assert loaded.logits.out_features == 5


def test_a_flow_is_computed_once(tmp_path, monkeypatch):
    write_ucf101(tmp_path / "data")
    calls = []

    def flow(clip):
        calls.append(1)
        return clip[:2] * 40 - 20

    monkeypatch.setattr(_gated_tasks, "optical_flow", flow)
    data = UCF101(tmp_path / "data")
    stream = FlowInput(tmp_path / "flow")
    first = [stream(sample) for sample in data]
    assert len(calls) == len(data) > 2
    again = [stream(sample) for sample in data]
    assert len(calls) == len(data)
    assert same(dict(enumerate(first)), dict(enumerate(again)))
    expected = I3DFlow.PREPROCESSING(flow(data[1].clip))
    torch.testing.assert_close(first[1], expected, rtol=1e-3, atol=1e-3)
    assert not list((tmp_path / "flow").rglob("*.new"))


def test_the_networks_of_the_paper(monkeypatch, tmp_path):
    write_ucf101(tmp_path)
    options = {"dataset": "ucf101", "root": tmp_path, "split": 1, "workers": 0, "output": tmp_path}
    options |= {"checkpoint": None, "flow_checkpoint": None}

    def task(model, stream):
        return train_gated.disk_task(
            type("Options", (), {**options, "model": model, "stream": stream})
        )

    resnext = task("resnext101_3d", "rgb")
    assert (resnext.name, resnext.paper_table) == ("ucf101-1", "9")
    assert resnext.layers == {name: (own,) for name, own in ResNeXt3D.LAYERS.items()}
    both = task("i3d", "rgb+flow")
    assert (both.name, both.paper_table) == ("ucf101-1-i3d rgb+flow", "10")
    assert both.layers["layer3"] == ("rgb.Mixed_5c", "flow.Mixed_5c")
    network = both.backbone()
    assert isinstance(network, TwoStream)
    assert (type(network.rgb), type(network.flow)) == (I3D, I3DFlow)
    with pytest.raises(SystemExit, match="--stream flow needs --model i3d"):
        task("resnext101_3d", "flow")


def test_table_9_stands_below_the_synthetic_rows(done):
    _, text = done
    lines = text.partition("Table 9 of the paper (3D ResNeXt-101): accuracy.")[2].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert rows[0] == ["", "frame-wise", "total video-wise"]
    assert [row[0] for row in rows[2:]] == [
        "none",
        "Resnext-101, printed",
        "Resnext-101 (layer 4+3+2+1+conv), printed",
    ]
    assert rows[3][1:] == ["87.5", "89.1"]
    own = text.splitlines()[2].split(" | ")
    assert rows[2][1:] == own[2:4]
    assert "Ours is of synthetic-4-3-32. " in text
