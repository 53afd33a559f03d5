"""The paper's tables on tiny datasets, each in its own format on disk."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from datasets_on_disk import write_ilsvrc_text, write_ilsvrc_voc, write_jhmdb, write_ucf24
from torch import nn

import paper_tables
from captum_3dcam import LayerwiseGlobalLocalCAM
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization
from captum_3dcam.evaluation import IOU_THRESHOLDS
from captum_3dcam.models import Preprocessing, ResNeXt3D
from paper_tables import DATASET, PER_SAMPLE, SCORES, ExplainedSamples, Network

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (20, 28)


def small(rank, classes, checkpoint=None):
    """A network of two layers, instead of the paper's."""
    torch.manual_seed(0)
    conv, pool = (
        (nn.Conv2d, nn.AdaptiveAvgPool2d) if rank == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    )
    parts = [conv(3, 4, 3, 2, 1), nn.ReLU(), conv(4, 5, 3, 1, 1), nn.ReLU()]
    module = nn.Sequential(*parts, pool(2), nn.Flatten(), nn.Linear(5 * 2**rank, classes)).eval()
    prepare = Preprocessing(0.5, 0.5, SIZE)
    return Network(module, {"first": "1", "second": "3"}, prepare, checkpoint is not None)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setitem(paper_tables.NETWORKS, "resnext101_3d", partial(small, 3))
    monkeypatch.setitem(paper_tables.NETWORKS, "efficientnet_lite0", partial(small, 2))


ONE_METHOD = ("--methods", "GlobalLocal")


def run(dataset, root, output, *more):
    return paper_tables.main(
        ["--dataset", dataset, "--root", str(root), "--output", str(output), *more]
    )


WRITERS = {
    "jhmdb": write_jhmdb,
    "ucf24": write_ucf24,
    "ilsvrc": write_ilsvrc_text,
    "ilsvrc-voc": write_ilsvrc_voc,
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folders = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, write in WRITERS.items():
        write(folders[name])
    return folders


# ------------------------------------------------------------------------------------ whole runs


@pytest.mark.parametrize("name", WRITERS)
def test_each_dataset_from_its_files_to_its_tables(name, roots, tmp_path, capsys):
    dataset = name.partition("-")[0]
    scores_of = run(dataset, roots[name], tmp_path)
    rows = list(scores_of)
    assert rows[:3] == [
        "GlobalLocal: first",
        "GlobalLocal: second",
        "GlobalLocal (sum): first + second",
    ]
    assert {"GradCAM: second", "HiResCAM (sum): first + second", "whole frame"} <= set(rows)
    for row, scores in scores_of.items():
        assert {*PER_SAMPLE, *DATASET, *SCORES} <= set(scores), row
        assert all(0 <= interval.value <= 1 for interval in scores.values())
        for own, common in zip(PER_SAMPLE, DATASET, strict=True):
            assert scores[own].value >= scores[common].value - 1e-9
    report = json.loads((tmp_path / f"{dataset}.json").read_text())
    assert list(report["rows"]) == rows
    printed = capsys.readouterr().out
    assert (tmp_path / f"{dataset}.md").read_text() == printed
    header = "| | " + " | ".join(DATASET) + " |"
    assert printed.count(header) == 2
    assert f"| | {' | '.join(SCORES)} |" in printed
    assert "with random weights: it has learned nothing." in printed
    assert re.search(r"The class is right in \d+\.\d %\.", printed)


def test_the_two_formats_of_ilsvrc_give_the_same_tables(roots, tmp_path):
    text, xml = (
        run("ilsvrc", roots[f"ilsvrc{kind}"], tmp_path / f"out{kind}") for kind in ("", "-voc")
    )
    # The networks differ: one has a class for each of ImageNet's, the other for those listed.
    for row in ("whole frame", "centre box", "chance"):
        assert {k: v.value for k, v in text[row].items() if k != "acc2"} == {
            k: v.value for k, v in xml[row].items() if k != "acc2"
        }


def test_a_stopped_run_resumes(roots, tmp_path, monkeypatch):
    expected = run("ucf24", roots["ucf24"], tmp_path / "whole", *ONE_METHOD)
    attribute, calls = LayerwiseGlobalLocalCAM.attribute, []

    def stop(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return attribute(self, *args, **kwargs)

    monkeypatch.setattr(LayerwiseGlobalLocalCAM, "attribute", stop)
    with pytest.raises(KeyboardInterrupt):
        run("ucf24", roots["ucf24"], tmp_path / "stopped", *ONE_METHOD)
    before = len(calls)
    assert run("ucf24", roots["ucf24"], tmp_path / "stopped", *ONE_METHOD) == expected
    # Three calls for each of four samples: the first was finished, the second is repeated.
    assert (len(calls) - before) % 3 == 0
    monkeypatch.undo()


def test_some_of_the_clips(roots, tmp_path, capsys):
    run("ucf24", roots["ucf24"], tmp_path, "--limit", "2", *ONE_METHOD)
    assert "ucf24: 2 annotated samples" in capsys.readouterr().out


# --------------------------------------------------------------------------------- the samples


def samples_of(data, network, target="predicted", limit=None):
    return ExplainedSamples(data, network, limit, target, "cpu")


def test_a_sample_is_the_clip_and_its_boxes_in_the_networks_size(roots):
    data = JHMDB(roots["jhmdb"])
    samples = samples_of(data, small(3, len(data.classes)))
    assert len(samples) + samples.left_out == len(data)
    for number, index in enumerate(samples.indices):
        clip, sample = data[index], samples[number]
        height, width = clip.clip.shape[-2:]
        scale = torch.tensor([SIZE[1] / width, SIZE[0] / height] * 2)
        torch.testing.assert_close(sample.boxes, clip.boxes * scale, equal_nan=True)
        assert sample.inputs.shape == (3, 16, *SIZE)
        assert sample.boxes[:, clip.padded].isnan().all()
        if sample.mask is not None:
            assert sample.mask.shape == (16, *SIZE)
            boxed = ~clip.boxes[0].isnan().any(dim=-1)
            assert torch.equal(sample.mask.flatten(1).any(dim=1), boxed)
            # The masked share of the clip stays the same, up to the coarser pixels.
            before = clip.masks[0].float().mean().item()
            assert sample.mask.float().mean().item() == pytest.approx(before, rel=0.3)


def test_a_mask_that_some_frames_lack_is_not_used(roots):
    """Energy on an actor without a mask would count as outside."""
    data = JHMDB(roots["jhmdb"])
    samples = samples_of(data, small(3, len(data.classes)))
    lacking = []
    for number, index in enumerate(samples.indices):
        clip = data[index]
        boxed = ~clip.boxes.isnan().any(dim=-1)
        lacks = bool((boxed & ~clip.masks.flatten(2).any(dim=-1)).any())
        assert (samples[number].mask is None) == lacks
        lacking.append(lacks)
    assert set(lacking) == {True, False}


def test_an_image_is_a_clip_of_one_frame_and_has_all_its_boxes(roots):
    data = ILSVRCLocalization(roots["ilsvrc"])
    samples = samples_of(data, small(2, len(data.classes)))
    assert {len(image.boxes) for image in data} == {1, 2}
    for number, image in enumerate(data):
        height, width = image.image.shape[-2:]
        scale = torch.tensor([SIZE[1] / width, SIZE[0] / height] * 2)
        sample = samples[number]
        torch.testing.assert_close(sample.boxes, image.boxes[:, None] * scale)
        assert (sample.inputs.shape, sample.mask) == ((3, *SIZE), None)


def test_the_class_that_is_explained(roots):
    data = UCF101_24(roots["ucf24"], annotated_only=True)
    network = small(3, len(data.classes))
    predicted, labelled = (samples_of(data, network, target) for target in ("predicted", "label"))
    for number in range(len(predicted)):
        sample = predicted[number]
        with torch.no_grad():
            highest = int(network.module(sample.inputs[None]).argmax())
        assert sample.target == highest
        label = data[predicted.indices[number]].label
        assert labelled[number].target == label
        assert predicted.correct[number] == (highest == label)
    with pytest.raises(SystemExit, match="None of the clips has a box"):
        samples_of(data, network, limit=0)


def test_acc2_is_a_hit_with_the_right_class(roots, tmp_path, monkeypatch):
    """With the labels as predictions it is the hit; with wrong ones, zero."""
    data = UCF101_24(roots["ucf24"], annotated_only=True)
    labels = [clip.label for clip in data]

    class Oracle(nn.Module):
        def __init__(self, right):
            super().__init__()
            self.body = small(3, len(data.classes)).module
            self.right = right

        def forward(self, x):
            known = {float(k): label for k, label in zip(sums, labels, strict=True)}
            label = known[float(x.detach().sum())]
            bonus = torch.zeros(len(data.classes))
            bonus[label if self.right else label - 1] = 100
            return self.body(x) + bonus

    prepare = small(3, 2).preprocessing
    sums = [prepare(clip.clip)[None].sum() for clip in data]
    for right in (True, False):
        network = Network(Oracle(right), {"first": "body.1", "second": "body.3"}, prepare, True)
        monkeypatch.setitem(paper_tables.NETWORKS, "resnext101_3d", lambda *a, n=network: n)
        scores_of = run("ucf24", roots["ucf24"], tmp_path / str(right), *ONE_METHOD)
        for scores in scores_of.values():
            expected = scores["hit_intersect"].value if right else 0
            assert scores["acc2"].value == pytest.approx(expected)
        assert scores_of["whole frame"]["acc2"].value == float(right)


def test_a_network_of_other_classes_has_no_acc2(roots, tmp_path, capsys):
    scores_of = run("ucf24", roots["ucf24"], tmp_path, "--num-classes", "400", *ONE_METHOD)
    assert "acc2" not in scores_of["whole frame"]
    printed = capsys.readouterr().out
    assert "The class is right" not in printed
    assert "acc2" not in printed
    with pytest.raises(SystemExit):
        run("ucf24", roots["ucf24"], tmp_path, "--num-classes", "400", "--target", "label")
    assert "--target label needs a network of the dataset's classes." in capsys.readouterr().err


def test_a_checkpoint_is_loaded(tmp_path):
    make = partial(ResNeXt3D, (1, 1, 1, 1))
    torch.manual_seed(1)
    trained = make(3)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "net.pth")
    network = paper_tables.video_network(make, 3, tmp_path / "net.pth")
    assert torch.equal(network.module.fc.weight, trained.fc.weight)
    assert network.trained
    assert not network.module.training
    assert list(network.layers) == ["conv", "layer1", "layer2", "layer3", "layer4"]
    assert not paper_tables.video_network(make, 3, None).trained


# --------------------------------------------------------------------------- printed figures


def test_printed_figures_stand_under_ours(roots, tmp_path, capsys):
    printed = {"GlobalLocal: first": {"box_acc@0.5_per_sample": 0.125, "acc2": 0.25}}
    (tmp_path / "printed.json").write_text(json.dumps(printed))
    run("ucf24", roots["ucf24"], tmp_path, *ONE_METHOD, "--printed", str(tmp_path / "printed.json"))
    tables = capsys.readouterr().out.split("\n\n")
    lines = [line for line in "\n".join(tables).splitlines() if "printed" in line]
    position = IOU_THRESHOLDS.index(0.5)
    empty = [""] * len(IOU_THRESHOLDS)
    cells = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert cells == [
        "GlobalLocal: first, printed",
        *empty[:position],
        "0.125",
        *empty[position + 1 :],
    ]
    assert "0.250" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "it cannot be read: "),
        ("[1]", "it cannot be read: "),
        ('{"a": 1}', "it cannot be read: "),
        ('{"a": {"accuracy": 1}}', "there is no column 'accuracy', of 'a'."),
        ('{"a": {"hit": 80}}', "'a', 'hit' is 80."),
    ],
)
def test_invalid_printed_figures(content, message, tmp_path):
    path = tmp_path / "printed.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        paper_tables.read_printed(path)
    assert "expected JSON as {row: {column: number in [0, 1]}}" in str(error.value)


def test_an_unknown_printed_row(roots, tmp_path, capsys):
    (tmp_path / "printed.json").write_text('{"theirs": {"hit": 0.5}}')
    with pytest.raises(SystemExit):
        run(
            "ucf24",
            roots["ucf24"],
            tmp_path,
            *ONE_METHOD,
            "--printed",
            str(tmp_path / "printed.json"),
        )
    assert (
        "--printed has the row 'theirs'; expected one of GlobalLocal: first, "
        in capsys.readouterr().err
    )


def test_the_row_of_the_whole_frame_by_hand(roots, tmp_path):
    """The share of frames of which the largest actor's box covers so much."""
    scores_of = run("ucf24", roots["ucf24"], tmp_path, "--methods", "GlobalLocal")["whole frame"]
    shares = {delta: [] for delta in IOU_THRESHOLDS}
    for clip in UCF101_24(roots["ucf24"], annotated_only=True):
        height, width = clip.clip.shape[-2:]
        boxes = clip.boxes.double().numpy()
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        best = np.nanmax(areas[:, ~np.isnan(areas).all(axis=0)], axis=0) / (height * width)
        for delta, share in shares.items():
            share.append((best >= delta).mean())
    for delta, share in shares.items():
        assert scores_of[f"box_acc@{delta}"].value == pytest.approx(np.mean(share), abs=1e-6)
