"""Stopped runs resume from their checkpoint, and from no other."""

import json

import numpy as np
import pytest
import torch
from evaluation_samples import FirstChannel, Interrupted, random_samples
from networks import conv_net

from captum_3dcam import LayerwiseHiResCAM, LayerwiseLayerCAM
from captum_3dcam.evaluation import evaluate


def test_a_stopped_run_resumes_with_the_same_result(tmp_path):
    samples = random_samples(5)
    whole = evaluate({"map": FirstChannel()}, samples)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"map": Interrupted(at=3)}, samples, checkpoint=tmp_path)
    lines = (tmp_path / "process-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["sample"] for line in lines] == [0, 1, 2]
    run = json.loads((tmp_path / "run.json").read_text())
    run["attributions"]["map"]["class"] = (
        "FirstChannel"  # its maps are those of the class that stops
    )
    (tmp_path / "run.json").write_text(json.dumps(run))
    again = FirstChannel()
    resumed = evaluate({"map": again}, samples, checkpoint=tmp_path)
    assert again.targets == [3, 4]
    assert resumed.to_json() == whole.to_json()
    for row, scores in whole.scores.items():
        for ours, theirs in zip(scores, resumed.scores[row], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_finished_sample_is_on_disk_before_the_next_starts(tmp_path):
    class ReadsCheckpoint(FirstChannel):
        def attribute(self, inputs, target=None):
            kept = (tmp_path / "process-0.jsonl").read_text().splitlines()
            assert [json.loads(line)["sample"] for line in kept] == self.targets
            return super().attribute(inputs, target)

    evaluate({"map": ReadsCheckpoint()}, random_samples(3), checkpoint=tmp_path)


@pytest.mark.parametrize("torn", [1, 40, -1])
def test_a_sample_whose_line_was_cut_off_is_scored_again(tmp_path, torn):
    samples = random_samples(3)
    whole = evaluate({"map": FirstChannel()}, samples, checkpoint=tmp_path).to_json()
    path = tmp_path / "process-0.jsonl"
    *kept, last = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*kept, last[:torn]]))
    for expected in ([2], []):
        again = FirstChannel()
        assert evaluate({"map": again}, samples, checkpoint=tmp_path).to_json() == whole
        assert again.targets == expected
    assert len(path.read_bytes().splitlines()) == 3


def test_one_process_resumes_what_several_have_done(tmp_path):
    samples = random_samples(3)
    whole = evaluate({"map": FirstChannel()}, samples, checkpoint=tmp_path).to_json()
    path = tmp_path / "process-0.jsonl"
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(third)
    (tmp_path / "process-1.jsonl").write_text(second + first[:100])
    again = FirstChannel()
    assert evaluate({"map": again}, samples, checkpoint=tmp_path).to_json() == whole
    assert again.targets == [0]
    assert (tmp_path / "process-1.jsonl").read_text() == second + first[:100]


def test_a_corrupted_line_is_an_error_with_its_number(tmp_path):
    evaluate({"map": FirstChannel()}, random_samples(2), checkpoint=tmp_path)
    path = tmp_path / "process-0.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:50]}\n{second}\n")
    with pytest.raises(ValueError, match=r"Line 1 of .*process-0.jsonl' is not JSON.* Delete"):
        evaluate({"map": FirstChannel()}, random_samples(2), checkpoint=tmp_path)


def row_of(net, layers="0", method=LayerwiseHiResCAM, name="map", **options):
    return {name: method(net, layers, **options)}


NET = conv_net(3)


@pytest.mark.parametrize(
    "rows, options, difference",
    [
        (row_of(NET), {"tolerance": 5}, r"tolerance: 0.0 there, 5.0 here"),
        (row_of(NET), {"count": 3}, r"samples: 2 there, 3 here"),
        (row_of(NET), {"seed": 1}, r"first sample: '\w+' there, '\w+' here"),
        (
            row_of(NET, name="other"),
            {},
            r"attributions, 'map': {...} there, None here; .* 'other': None there, {...} here",
        ),
        (row_of(NET, "1"), {}, r"'map', 'layers': \['0'\] there, \['1'\] here"),
        (row_of(NET, fusion="max"), {}, r"'map', 'fusion': 'sum' there, 'max' here"),
        (row_of(NET, method=LayerwiseLayerCAM), {}, r"'class': 'LayerwiseHiResCAM' there"),
        (row_of(conv_net(3, seed=1)), {}, r"'model': '\w+' there, '\w+' here"),
    ],
)
def test_the_checkpoint_of_another_run_is_an_error(tmp_path, rows, options, difference):
    def run(rows, count=2, seed=0, **options):
        samples = random_samples(count, seed=seed)
        clips = [s._replace(inputs=s.inputs.repeat(2, 1, 1, 1), target=0) for s in samples]
        return evaluate(rows, clips, checkpoint=tmp_path, **options)

    run(row_of(NET))
    run(row_of(conv_net(3)))  # another object, the same weights
    before = (tmp_path / "process-0.jsonl").read_bytes()
    with pytest.raises(ValueError, match=rf"of another run\. .*{difference}.*Pass another folder"):
        run(rows, **options)
    assert (tmp_path / "process-0.jsonl").read_bytes() == before


def test_another_mask_is_another_run(tmp_path):
    first, *others = random_samples(2)
    masks = [torch.ones(3, 8, 8, dtype=torch.bool), torch.eye(8).expand(3, 8, 8) > 0]
    evaluate({}, [first._replace(mask=masks[0]), *others], checkpoint=tmp_path)
    with pytest.raises(ValueError, match="first sample"):
        evaluate({}, [first._replace(mask=masks[1]), *others], checkpoint=tmp_path)


def test_a_run_with_a_function_for_fusion_resumes(tmp_path):
    def make():
        def largest(maps):
            return maps.amax(dim=0)

        return row_of(NET, ["0", "1"], fusion=largest)

    clips = [s._replace(inputs=s.inputs.repeat(2, 1, 1, 1), target=0) for s in random_samples(2)]
    texts = [evaluate(make(), clips, checkpoint=tmp_path).to_json() for _ in range(2)]
    assert texts[0] == texts[1]
    assert "largest" in texts[0]
