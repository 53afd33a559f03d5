"""The study of gates: its data, training, accuracies, and a resumed run."""

import json
from collections import Counter

import pytest
import torch
from datasets_on_disk import write_hmdb51, write_ucf101
from torch import nn

import train_gated
from captum_3dcam.datasets import ACTIONS, SyntheticActions
from captum_3dcam.models import LayerwiseGatedClassifier, ResNeXt3D
from train_gated import PAPER_RECIPE, SCALED_RECIPE, Sample, SyntheticClips, Task

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
    assert train_gated.gate_sets(["a", "b", "c"]) == [
        (),
        ("a",),
        ("b",),
        ("c",),
        ("b", "c"),
        ("a", "b", "c"),
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
    task = Task("given", 3, [], Given, lambda seed: samples, samples)
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
    lines = text.splitlines()
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
    before = train_gated.load_action_net().state_dict()
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
    monkeypatch.setattr(train_gated, "resnext101_3d", lambda c: ResNeXt3D((1, 1, 1, 1), c))
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
