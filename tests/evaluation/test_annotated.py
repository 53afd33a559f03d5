"""The samples of a dataset that have a box."""

import pytest
import torch
from datasets_on_disk import write_jhmdb
from torch import nn

from captum_3dcam.datasets import JHMDB, SyntheticActions
from captum_3dcam.evaluation import AnnotatedSamples, prepare_sample
from captum_3dcam.models import Preprocessing

PREPARE = Preprocessing(0.5, 0.5, (12, 16))


class Third(nn.Module):
    """Predicts the third class."""

    def forward(self, x):
        return torch.eye(4)[2].expand(len(x), 4)


def test_samples_are_prepared_for_their_label():
    dataset = SyntheticActions(4)
    samples = AnnotatedSamples(dataset, PREPARE)
    assert len(samples) == 4
    for number in range(4):
        label = int(dataset[number].labels[0])
        expected = prepare_sample(dataset[number], PREPARE, target=label)
        assert samples[number].target == label
        assert torch.equal(samples[number].inputs, expected.inputs)
        assert torch.equal(samples[number].boxes, expected.boxes)


def test_a_limit_and_predicted_classes():
    samples = AnnotatedSamples(SyntheticActions(6), PREPARE, limit=3, predict=Third())
    assert [samples[i].target for i in range(3)] == [2, 2, 2]
    expected = prepare_sample(SyntheticActions(6)[2], PREPARE, target=2)
    assert torch.equal(samples[1].inputs, expected.inputs)


class Boxless(JHMDB):
    """Some clips have no box."""

    boxless = ()

    def __getitem__(self, index):
        clip = super().__getitem__(index)
        nothing = torch.full_like(clip.boxes, float("nan"))
        return clip._replace(boxes=nothing) if index in self.boxless else clip


def test_samples_without_a_box_are_left_out(tmp_path, capsys):
    write_jhmdb(tmp_path)
    dataset = Boxless(tmp_path, "test", 1)
    dataset.boxless = [0]
    samples = AnnotatedSamples(dataset, PREPARE, progress=True)
    assert samples.indices == list(range(1, len(dataset)))
    assert "finding boxes: 100%" in capsys.readouterr().err
    dataset.boxless = range(len(dataset))
    with pytest.raises(ValueError, match="None of the [0-9]+ samples of Boxless has a box"):
        AnnotatedSamples(dataset, PREPARE)
