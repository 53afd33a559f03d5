"""Box formats, and the validation that the metrics share."""

import pytest
import torch

from captum_3dcam import metrics
from captum_3dcam.metrics import _inputs as inputs


def test_boxes_that_include_their_last_pixel():
    inclusive, exclusive = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 4, 5]])
    assert metrics.to_exclusive(inclusive, "xyxy_inclusive").equal(exclusive.double())
    assert metrics.to_exclusive(exclusive, "xyxy").equal(exclusive.double())
    assert metrics.best_iou([inclusive], [torch.tensor([[1, 2, 3, 3]])], "xyxy_inclusive") == 2 / 3
    accuracy = metrics.box_accuracy(exclusive, [torch.tensor([[1, 2, 4, 4]])], (0.6, 0.7))
    assert accuracy.tolist() == [1, 0]


def test_small_integers_do_not_overflow():
    box = torch.tensor([[200, 200, 255, 255]], dtype=torch.uint8)
    assert metrics.to_exclusive(box, "xyxy_inclusive").tolist() == [[200, 200, 256, 256]]
    assert metrics.box_iou(box, box).item() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: metrics.to_exclusive(torch.zeros(1, 3), "xyxy"),
            r"as many lower bounds as upper ones.*received shape \(1, 3\)",
        ),
        (lambda: metrics.to_exclusive(torch.zeros(1, 4), "xywh"), "Choose one of 'xyxy', "),
        (lambda: metrics.to_exclusive(torch.tensor([[5, 5, 2, 9]]), "xyxy"), "width, y"),
        (
            lambda: inputs.check_boxes(torch.zeros(2, 4), 2),
            r"received a tensor, shape \(2, 4\).*list\(boxes\[:, None\]\)",
        ),
        (
            lambda: inputs.check_boxes([torch.zeros(1, 4)], 2),
            "list of 2 tensors of ground-truth boxes, one per sample; received 1",
        ),
        (
            lambda: inputs.check_boxes([torch.zeros(0, 4)], 1),
            r"Sample 0 has ground-truth boxes of shape \(0, 4\).*with at least one box",
        ),
        (lambda: inputs.check_boxes([torch.zeros(1, 3)], 1), r"shape \(1, 3\); expected \(B, 2D\)"),
        (lambda: inputs.check_samples(torch.zeros(3)), r"Expected maps \(N, \*S\); received"),
        (lambda: inputs.check_fractions("thresholds", [2]), r"is empty or not in \[0, 1\]"),
        (
            lambda: inputs.drop_channel(torch.zeros(1, 3, 4, 4), rank=2),
            r"2 spatial axes, as the boxes have; received shape \(1, 3, 4, 4\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
