"""The study of localisation: its rows, its samples, and two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_3dcam.evaluation import BASELINES

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    action_net = pytest.importorskip("trained_networks.action_net")
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = action_net.ActionNet()
        torch.save(net.state_dict(), path)
    return path


def arguments(weights, folder, *more):
    return [
        *("--weights", str(weights), "--output", str(folder / "found.json")),
        *("--checkpoint", str(folder / "kept"), *more),
    ]


def test_two_actors(weights, tmp_path, capsys):
    import evaluate_localization

    chosen = ("--clips", "2", "--actors", "2", "--methods", "GradCAM", "LayerCAM")
    layers = ("--layers", "layer4", "--layers", "layer2,layer3", "--fusions", "sum", "max")
    columns = ("--columns", "hit", "box_acc@0.3")
    result = evaluate_localization.main(arguments(weights, tmp_path, *chosen, *layers, *columns))
    rows = [
        "GradCAM: layer4",
        "LayerCAM: layer4",
        *(
            f"{name} ({f}): layer2+layer3"
            for name in ("GradCAM", "LayerCAM")
            for f in ("sum", "max")
        ),
    ]
    assert list(result.summary) == [*rows, *BASELINES]
    assert len(result.scores["chance"].energy) == 4
    assert result.bootstrap.group_size == 2
    assert capsys.readouterr().out == result.table(["hit", "box_acc@0.3"]) + "\n"
    assert (tmp_path / "found.json").read_text(encoding="utf-8") == result.to_json()


def test_samples_and_default_rows():
    evaluate_localization = pytest.importorskip("evaluate_localization")
    from trained_networks.action_net import LAYERS, ActionNet

    clips = evaluate_localization.SyntheticActions(3, seed=4, actors=2, frames=4, size=32)
    samples = evaluate_localization.ActorSamples(clips)
    assert len(samples) == 6
    clip = clips[2]
    assert samples[5].target == clip.labels[1]
    assert torch.equal(samples[5].inputs, clip.clip)
    assert torch.equal(samples[5].boxes, clip.boxes[1])
    assert torch.equal(samples[5].mask, clip.masks[1])
    every = [*([layer] for layer in LAYERS), LAYERS]
    rows = evaluate_localization.attributions(
        ActionNet(), evaluate_localization.METHODS, every, evaluate_localization.FUSIONS
    )
    # Each layer alone; then all of them by every fusion, but once for methods without fusion.
    methods, single = len(evaluate_localization.METHODS), evaluate_localization.WITHOUT_FUSION
    assert len(rows) == methods * 5 + (methods - len(single)) * 5 + len(single)
    joined = rows["HiResCAM (product): stem+layer1+layer2+layer3+layer4"]
    assert joined.fusion == "product"
    assert [layer.name for layer in joined.layers] == LAYERS


@pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
    reason="two processes communicate by gloo",
)
def test_two_processes_have_the_result_of_one(weights, tmp_path):
    """Of three samples one process scores two; each has its own file."""
    import evaluate_localization

    chosen = ("--clips", "3", "--methods", "HiResCAM", "--layers", "layer3,layer4")
    result = evaluate_localization.main(arguments(weights, tmp_path / "one", *chosen))
    script = str(STUDIES / "evaluate_localization.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, script, *arguments(weights, tmp_path / "two", *chosen)],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == result.table()  # of the first process only
    assert " 2/2 " in done.stderr
    assert " 1/1 " not in done.stderr  # the bar is of the first process only, too
    assert (tmp_path / "two" / "found.json").read_text(encoding="utf-8") == result.to_json()
    finished = [
        [json.loads(line)["sample"] for line in path.read_text().splitlines()]
        for path in sorted((tmp_path / "two" / "kept").glob("*.jsonl"))
    ]
    assert finished == [[0, 2], [1]]
    again = evaluate_localization.main(arguments(weights, tmp_path / "two", *chosen))
    assert again.to_json() == result.to_json()
    assert not (tmp_path / "two" / "kept" / "process-0.jsonl").read_text().count('"sample": 1,')


def test_the_other_actor_is_the_ground_truth_on_request():
    script = pytest.importorskip("evaluate_localization")
    clips = script.SyntheticActions(2, seed=5, frames=8, size=32, actors=2)
    own, other = script.ActorSamples(clips), script.ActorSamples(clips, other=True)
    for index in range(4):
        assert own[index].target == other[index].target
        assert torch.equal(own[index].boxes, other[index ^ 1].boxes)
        assert torch.equal(own[index].mask, other[index ^ 1].mask)
        assert not torch.equal(own[index].boxes, other[index].boxes)
    with pytest.raises(ValueError, match="no other actor: give --actors 2"):
        script.ActorSamples(script.SyntheticActions(2), other=True)
