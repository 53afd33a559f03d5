"""The paper's tables on tiny datasets, each in its own format on disk; the printed ones beside."""

import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from datasets_on_disk import write_ilsvrc_text, write_ilsvrc_voc, write_jhmdb, write_ucf24
from torch import nn

import _paper
import paper_tables
from captum_3dcam import LayerwiseGlobalLocalCAM
from captum_3dcam.datasets import JHMDB, UCF101_24, ILSVRCLocalization
from captum_3dcam.evaluation import IOU_THRESHOLDS
from captum_3dcam.models import Preprocessing, ResNeXt3D
from paper_tables import DATASET, PER_SAMPLE, SCORES, ExplainedSamples, Network

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (20, 28)


def small(rank, classes, checkpoint=None, names=("first", "second")):
    """A network of a layer for each name, instead of the paper's."""
    torch.manual_seed(0)
    conv, pool = (
        (nn.Conv2d, nn.AdaptiveAvgPool2d) if rank == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    )
    parts = [conv(3, 4, 3, 2, 1), nn.ReLU()]
    for number in range(1, len(names)):
        parts += [conv(4 if number == 1 else 5, 5, 3, 1, 1), nn.ReLU()]
    module = nn.Sequential(*parts, pool(2), nn.Flatten(), nn.Linear(5 * 2**rank, classes)).eval()
    prepare = Preprocessing(0.5, 0.5, SIZE)
    layers = {name: str(2 * number + 1) for number, name in enumerate(names)}
    return Network(module, layers, prepare, checkpoint is not None)


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
    labels = range(len(data.classes))
    return ExplainedSamples(data, network, limit, target, "cpu", labels)


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
    assert "--target label needs a network of the dataset's classes" in capsys.readouterr().err


def test_a_checkpoint_is_loaded(tmp_path):
    make = partial(ResNeXt3D, (1, 1, 1, 1))
    torch.manual_seed(1)
    trained = make(3)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "net.pth")
    network = paper_tables.paper_network(make, 3, tmp_path / "net.pth")
    assert torch.equal(network.module.fc.weight, trained.fc.weight)
    assert network.trained
    assert not network.module.training
    assert list(network.layers) == ["conv", "layer1", "layer2", "layer3", "layer4"]
    assert not paper_tables.paper_network(make, 3, None).trained


# --------------------------------------------------------------------------- printed figures

DEPTHS = ("conv", "layer1", "layer2", "layer3", "layer4")
SUM = " + ".join(DEPTHS)


@pytest.fixture
def with_the_papers_layers(monkeypatch):
    for name, rank in (("resnext101_3d", 3), ("resnet50", 2)):
        monkeypatch.setitem(paper_tables.NETWORKS, name, partial(small, rank, names=DEPTHS))


def tables_in(text):
    """{number: (title, header, rows)} of the paper's tables, each row as cells."""
    tables = {}
    for part in text.split("\nTable ")[1:]:
        title, _, rest = part.partition("\n\n")
        lines = [line for line in rest.splitlines() if line.startswith("|")]
        header, _, *rows = ([c.strip() for c in line.strip("|").split("|")] for line in lines)
        number, _, title = title.partition(" of the paper")
        tables[number] = (title, header, rows)
    return tables


def printed_beside(text):
    """The paper's tables alone, without those of all rows that follow."""
    return tables_in(text.partition("All rows, ")[0])


TABLES_OF = {"jhmdb": ["3", "4", "5", "8"], "ucf24": ["6"], "ilsvrc": ["7"]}
OURS = {
    "3": ["GradCAM: layer4", *(f"GlobalLocal: {name}" for name in DEPTHS),
          f"GlobalLocal (sum): {SUM}"],
    "4": ["GradCAM: layer4", f"GlobalLocal (mean): {SUM}", f"GlobalLocal (sum): {SUM}"],
    "5": ["GradCAM: layer4", f"GlobalLocal (mean): {SUM}", f"GlobalLocal (sum): {SUM}"],
    "6": [*(f"GlobalLocal: {name}" for name in DEPTHS), "GlobalLocal (sum): conv + layer1",
          "GlobalLocal (sum): conv + layer1 + layer2 + layer3", "GradCAM (sum): conv + layer1"],
    "7": ["GradCAM: layer4", "GradCAM (sum): layer2 + layer3 + layer4",
          "GlobalLocal (sum): layer2 + layer3 + layer4"],
    "8": ["GradCAM: layer4", f"GlobalLocal (sum): {SUM}"],
}  # fmt: skip


@pytest.mark.parametrize("dataset", TABLES_OF)
@pytest.mark.usefixtures("with_the_papers_layers")
def test_what_the_paper_prints_stands_under_ours(dataset, roots, tmp_path, capsys):
    methods = ("--methods", "GlobalLocal", "GradCAM")
    model = ("--model", "resnet50") if dataset == "ilsvrc" else ()
    scores_of = run(dataset, roots[dataset], tmp_path, *methods, *model)
    tables = printed_beside(capsys.readouterr().out)
    assert list(tables) == TABLES_OF[dataset]
    for number, (title, header, rows) in tables.items():
        printed = _paper.paper_tables()[number]
        assert printed.network in title
        assert header == ["", *printed.columns]
        *pairs, baseline = rows
        assert [row[0] for row in pairs[::2]] == OURS[number]
        assert [row[0] for row in pairs[1::2]] == [f"{row.name}, printed" for row in printed.rows]
        for own, theirs, row in zip(pairs[::2], pairs[1::2], printed.rows, strict=True):
            assert own[1:] == [str(scores_of[own[0]][key]) for key in printed.columns.values()]
            assert list(map(float, theirs[1:])) == list(row.printed)
        whole = scores_of["whole frame"]
        assert baseline == ["whole frame", *(str(whole[k]) for k in printed.columns.values())]


@pytest.mark.usefixtures("with_the_papers_layers")
def test_the_scores_of_the_papers_columns(roots, tmp_path):
    """From the table of all rows: an average, and a share of what is right."""
    scores_of = run("ucf24", roots["ucf24"], tmp_path, *ONE_METHOD)
    for scores in scores_of.values():
        columns = [scores[f"box_acc@{d}_per_sample"].value for d in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)]
        assert scores["average_per_sample"].value == pytest.approx(np.mean(columns))
        for delta in (0.5, 0.6):
            right, all_ = (scores[f"{n}@{delta}_per_sample"].value for n in ("acc2", "box_acc"))
            assert 0 <= right <= all_


@pytest.mark.usefixtures("with_the_papers_layers")
def test_the_mean_over_layers_has_the_boxes_of_the_sum(roots, tmp_path):
    scores_of = run("jhmdb", roots["jhmdb"], tmp_path, *ONE_METHOD)
    mean, total = (scores_of[f"GlobalLocal ({fusion}): {SUM}"] for fusion in ("mean", "sum"))
    for column in (*PER_SAMPLE, *DATASET, "hit_intersect"):
        assert mean[column].value == pytest.approx(total[column].value, abs=0.05), column


def test_acc2_of_boxes_by_hand(roots, tmp_path, monkeypatch):
    """Of the clips whose class is right, the share of frames; the others count as 0."""
    data = UCF101_24(roots["ucf24"], annotated_only=True)
    network = small(3, len(data.classes))
    correct = np.array(samples_of(data, network).correct, dtype=float)
    seen = {}
    evaluate = paper_tables.evaluate

    def keep(*args, **kwargs):
        seen["evaluation"] = evaluate(*args, **kwargs)
        return seen["evaluation"]

    monkeypatch.setattr(paper_tables, "evaluate", keep)
    scores_of = run("ucf24", roots["ucf24"], tmp_path, *ONE_METHOD)
    for row, scores in seen["evaluation"].scores.items():
        for delta in (0.5, 0.6):
            per_clip = [max(clip[IOU_THRESHOLDS.index(delta)]) for clip in scores.accuracy]
            expected = np.mean(np.array(per_clip) * correct)
            assert scores_of[row][f"acc2@{delta}_per_sample"].value == pytest.approx(expected)


def test_a_network_without_the_papers_layers_has_its_rows_alone(roots, tmp_path, capsys):
    run("ucf24", roots["ucf24"], tmp_path, *ONE_METHOD)
    _, _, rows = printed_beside(capsys.readouterr().out)["6"]
    names = [row[0] for row in rows]
    assert names[-1] == "whole frame"
    assert all(name.endswith(", printed") for name in names[:-1])
    assert len(names) == 9


@pytest.mark.usefixtures("with_the_papers_layers")
def test_the_classes_of_a_checkpoint_are_found_by_name(roots, tmp_path, capsys):
    """A network of more classes, as the paper's: Acc2 is by the names."""
    data = UCF101_24(roots["ucf24"], annotated_only=True)
    names = ["other", *(re.sub("([a-z])([A-Z])", r"\1 \2", n).lower() for n in data.classes[::-1])]
    (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
    labels = paper_tables.find_classes(data.classes, names)
    assert labels == [len(data.classes) - n for n in range(len(data.classes))]
    more = ("--class-names", str(tmp_path / "names.txt"))
    scores_of = run("ucf24", roots["ucf24"], tmp_path / "out", *ONE_METHOD, *more)
    network = small(3, len(names), names=DEPTHS)
    samples = ExplainedSamples(data, network, None, "label", "cpu", labels)
    assert samples.targets == [labels[data[i].label] for i in samples.indices]
    right = sum(samples.correct) / len(samples)
    assert scores_of["whole frame"]["acc2"].value == pytest.approx(right)
    assert f"The class is right in {100 * right:.1f} %." in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--class-names has no 'Basketball', which is a class of"):
        paper_tables.find_classes(data.classes, names[:3])


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
