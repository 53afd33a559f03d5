"""Faithfulness in an evaluation: the scores of captum_3dcam.sanity, sample by sample."""

import json

import numpy as np
import pytest
import torch
from evaluation_samples import FirstChannel, Interrupted, random_samples
from networks import conv_net

from captum_3dcam import LayerwiseHiResCAM, LayerwiseLayerCAM
from captum_3dcam.evaluation import COLUMNS, FAITHFULNESS, Faithfulness, Sample, evaluate
from captum_3dcam.sanity import (
    Perturbation,
    adcc,
    confidence_change,
    perturbation_curve,
    road,
)

SIZES = {2: (8, 8), 3: (3, 8, 8)}


def samples_of(rank, count=3):
    generator = torch.Generator().manual_seed(rank)
    box = torch.tensor([[1.0, 1.0, 6.0, 6.0]]).repeat(int(np.prod(SIZES[rank][:-2])), 1)
    return [
        Sample(torch.randn(2, *SIZES[rank], generator=generator), target, box)
        for target in range(count)
    ]


def expected_scores(model, attribute, inputs, target, steps=50):
    """Of one map, by name, from the functions of captum_3dcam.sanity."""
    heatmap = attribute(inputs, target=target)
    change = confidence_change(model, inputs, heatmap, target)
    parts = adcc(attribute, inputs, target, forward_func=model)
    return {
        **{
            mode: perturbation_curve(
                model, inputs, heatmap, target, Perturbation(mode, steps=steps)
            ).auc.item()
            for mode in ("deletion", "insertion")
        },
        "road": road(model, inputs, heatmap, target).combined.item(),
        "average_drop": change.drop.item(),
        "increase_in_confidence": float(change.increase.item()),
        "coherency": parts.coherency.item(),
        "complexity": parts.complexity.item(),
        "adcc": parts.adcc.item(),
    }


@pytest.mark.parametrize("rank", [2, 3])
def test_scores_are_those_of_the_sanity_checks(rank):
    model, samples = conv_net(rank), samples_of(rank, 2)
    cam = LayerwiseHiResCAM(model, "0")
    result = evaluate({"HiResCAM": cam}, samples, faithfulness=FAITHFULNESS)
    assert result.faithfulness == FAITHFULNESS
    for index, sample in enumerate(samples):
        inputs = sample.inputs[None]
        centre = torch.zeros(1, 1, *SIZES[rank])
        centre[..., 2:6, 2:6] = 1
        generator = torch.Generator().manual_seed(index)

        def draw(inputs, target=None, generator=generator):
            return torch.rand(1, 1, *inputs.shape[2:], generator=generator)

        first = draw(inputs)
        maps = {
            "HiResCAM": cam.attribute,
            "whole frame": lambda x, target=None: torch.ones_like(x[:, :1]),
            "centre box": lambda x, target=None, centre=centre: centre,
            # One map for all scores, and another one for the masked input.
            "chance": lambda x, target=None, first=first, i=inputs: (
                first if x.equal(i) else draw(x)
            ),
        }
        for row, attribute in maps.items():
            expected = expected_scores(model, attribute, inputs, sample.target)
            received = dict(zip(FAITHFULNESS, result.scores[row].faithfulness[index], strict=True))
            assert received == pytest.approx(expected, abs=1e-5), row
    frame = dict(zip(FAITHFULNESS, result.scores["whole frame"].faithfulness.mean(0), strict=True))
    # Ones change nothing, are not simple, and do not depend on the input.
    assert frame["average_drop"] == frame["adcc"] == frame["coherency"] == 0
    assert frame["complexity"] == 1


def test_means_intervals_tables_and_json():
    model, names = conv_net(2), ("average_drop", "complexity")
    attributions = {"HiResCAM": LayerwiseHiResCAM(model, "0")}
    result = evaluate(attributions, samples_of(2), faithfulness=names)
    for row, scores in result.scores.items():
        assert scores.faithfulness.shape == (3, 2)
        for name, values in zip(names, scores.faithfulness.T, strict=True):
            interval = result.summary[row][name]
            assert interval.value == pytest.approx(values.mean())
            assert interval.low <= interval.value <= interval.high
    header = result.table().splitlines()[0]
    assert header == f"| | {' | '.join((*COLUMNS, *names))} |"
    assert result.table(["complexity"]).splitlines()[0] == "| | complexity |"
    saved, summary = json.loads(result.to_json()), result.summary["HiResCAM"]
    assert saved["rows"]["HiResCAM"]["complexity"] == summary["complexity"]._asdict()
    described = {"scores": list(names), "steps": 50, "output": "probability", "model": None}
    assert saved["run"]["faithfulness"] == described
    plain = evaluate(attributions, samples_of(2))
    assert plain.run["faithfulness"] is None
    assert plain.table().splitlines()[0] == f"| | {' | '.join(COLUMNS)} |"
    assert plain.scores["chance"].faithfulness.shape == (3, 0)
    for name in COLUMNS:
        assert plain.summary["HiResCAM"][name] == result.summary["HiResCAM"][name]


def test_a_map_of_what_the_score_reads_is_faithful_and_its_reverse_is_not():
    class Reads(FirstChannel):
        """The score is the sum of the upper half."""

        @staticmethod
        def forward_func(x):
            score = x[:, 0, :4].sum(dim=(1, 2))
            return torch.stack([score, -score], dim=1)

        def attribute(self, inputs, target=None):
            heatmap = torch.zeros_like(inputs[:, :1])
            heatmap[..., :4, :] = 1
            return heatmap

    class Reverse(Reads):
        def attribute(self, inputs, target=None):
            return 1 - super().attribute(inputs, target)

    samples = [s._replace(inputs=s.inputs / 20, target=0) for s in random_samples(4, (8, 8))]
    names = ("deletion", "average_drop")
    result = evaluate({"good": Reads(), "bad": Reverse()}, samples, faithfulness=names)
    good, bad = result.summary["good"], result.summary["bad"]
    assert (
        good["deletion"].value < result.summary["chance"]["deletion"].value < bad["deletion"].value
    )
    assert good["average_drop"].value == 0 < bad["average_drop"].value


def test_options_and_models():
    inner = conv_net(3, inputs=1)
    samples = [s._replace(target=s.target % 4) for s in random_samples(2)]

    def double(x):
        return inner(2 * x)

    options = Faithfulness(["deletion"], steps=7, output="score", batch_size=3, forward_func=inner)
    result = evaluate({"map": FirstChannel()}, samples, faithfulness=options)
    for index, sample in enumerate(samples):
        x = sample.inputs[None]
        curve = perturbation_curve(
            inner,
            x,
            x,
            sample.target,
            Perturbation(steps=7),
            output="score",
        )
        assert result.scores["map"].faithfulness[index, 0] == pytest.approx(
            curve.auc.item(), rel=1e-5
        )
    assert result.run["faithfulness"]["model"] is not None
    # Each row is scored on its own model, and the baselines on both.
    one, two = FirstChannel(), FirstChannel()
    one.forward_func, two.forward_func = inner, double
    both = evaluate({"one": one, "two": two}, samples, faithfulness=("average_drop",))
    alone = [
        evaluate({"map": each}, samples, faithfulness=("average_drop",)) for each in (one, two)
    ]
    for row, single in zip(("one", "two"), alone, strict=True):
        np.testing.assert_allclose(
            both.scores[row].faithfulness, single.scores["map"].faithfulness, atol=1e-9
        )
    np.testing.assert_allclose(
        both.scores["centre box"].faithfulness,
        np.mean([each.scores["centre box"].faithfulness for each in alone], axis=0),
    )
    # An attribution's own model comes before the one given for those without.
    given = Faithfulness(("average_drop",), forward_func=inner)
    own = evaluate({"two": two}, samples, faithfulness=given).scores["two"].faithfulness
    np.testing.assert_allclose(own, both.scores["two"].faithfulness, atol=1e-9)
    assert np.abs(own - both.scores["one"].faithfulness).max() > 1e-6
    # More steps than positions are one for each.
    small = [Sample(torch.rand(1, 2, 2), 0, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))]
    plane = Faithfulness(("deletion",), forward_func=conv_net(2, inputs=1))
    assert evaluate({}, small, faithfulness=plane).scores["chance"].faithfulness.shape == (1, 1)


def test_a_stopped_run_resumes_and_another_request_is_another_run(tmp_path):
    options = {
        "faithfulness": Faithfulness(("average_drop", "adcc"), forward_func=conv_net(3, inputs=1))
    }
    samples = [s._replace(target=n % 4) for n, s in enumerate(random_samples(3))]
    whole = evaluate({"map": FirstChannel()}, samples, **options)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"map": Interrupted(at=2)}, samples, checkpoint=tmp_path, **options)
    run = json.loads((tmp_path / "run.json").read_text())
    run["attributions"]["map"]["class"] = "FirstChannel"
    (tmp_path / "run.json").write_text(json.dumps(run))
    again = FirstChannel()
    resumed = evaluate({"map": again}, samples, checkpoint=tmp_path, **options)
    assert again.targets == [2, 2]  # the sample, and what its map leaves of it
    assert resumed.to_json() == whole.to_json()
    for other, difference in (
        (("adcc",), "faithfulness, 'scores'|faithfulness, 'model'"),
        ((), r"faithfulness: {...} there, None here"),
        (
            Faithfulness(("average_drop", "adcc"), 9, forward_func=conv_net(3, inputs=1)),
            "'steps': 50 th",
        ),
    ):
        first = FirstChannel()
        first.forward_func = conv_net(3, inputs=1)
        with pytest.raises(ValueError, match=f"of another run. .*{difference}"):
            evaluate({"map": first}, samples, checkpoint=tmp_path, faithfulness=other)


def test_the_networks_do_not_change():
    model = conv_net(2, norm=True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cams = {"a": LayerwiseHiResCAM(model, "0"), "b": LayerwiseLayerCAM(model, "1")}
    evaluate(cams, samples_of(2, 1) * 2, faithfulness=("insertion", "adcc"))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_errors_before_any_work():
    samples, cam = random_samples(1), FirstChannel()
    with pytest.raises(ValueError, match="faithfulness='roar' is not known. Choose one of 'delet"):
        evaluate({"map": cam}, samples, faithfulness=("road", "roar"))
    with pytest.raises(TypeError, match="faithfulness='road': expected a list of names"):
        evaluate({"map": cam}, samples, faithfulness="road")
    with pytest.raises(ValueError, match="and 'map' has no forward_func. Pass faithfulness=Faith"):
        evaluate({"map": cam}, samples, faithfulness=("road",))
    with pytest.raises(ValueError, match="and 'chance' has no forward_func"):
        evaluate({}, samples, faithfulness=("road",))
    with pytest.raises(ValueError, match="steps=0: expected an integer, 1 or more"):
        Faithfulness(("road",), steps=0)
    with pytest.raises(ValueError, match="batch_size=0: expected an integer, 1 or more"):
        Faithfulness(("road",), batch_size=0)
    assert not cam.targets
