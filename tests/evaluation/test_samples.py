"""Samples of the datasets, and their validation."""

import numpy as np
import pytest
import torch
from evaluation_samples import FirstChannel, random_samples

from captum_3dcam.datasets import LocalizedImage, SyntheticActions
from captum_3dcam.evaluation import evaluate, evenly_spaced, prepare_sample
from captum_3dcam.models import Preprocessing

PREPARE = Preprocessing(0.5, 0.5, (12, 16))


@pytest.mark.parametrize("actors", [1, 2])
def test_a_clip_is_prepared_with_its_boxes_and_masks(actors):
    clip = SyntheticActions(1, frames=8, size=48, actors=actors)[0]
    sample = prepare_sample(clip, PREPARE, 5)
    assert torch.equal(sample.inputs, PREPARE(clip.clip))
    assert sample.target == 5
    scale = torch.tensor([16 / 48, 12 / 48] * 2)
    torch.testing.assert_close(sample.boxes, clip.boxes * scale)
    # The pixel whose centre is nearest, of all actors together.
    rows, columns = ((np.arange(n) + 0.5) * 48 / n for n in (12, 16))
    expected = clip.masks.any(dim=0)[:, rows.astype(int)][:, :, columns.astype(int)]
    assert torch.equal(sample.mask, expected)
    evaluate({"map": FirstChannel()}, [sample])


def test_masks_that_lack_a_frame_with_a_box_are_not_used():
    clip = SyntheticActions(1, frames=8, size=48)[0]
    masks, boxes = clip.masks.clone(), clip.boxes.clone()
    masks[0, 3] = False
    assert prepare_sample(clip._replace(masks=masks), PREPARE, 0).mask is None
    boxes[0, 3] = torch.nan  # the frame has no box either
    assert prepare_sample(clip._replace(masks=masks, boxes=boxes), PREPARE, 0).mask is not None


def test_an_image_is_prepared_as_one_frame():
    boxes = torch.tensor([[0.0, 0.0, 24.0, 48.0], [12.0, 12.0, 24.0, 24.0]])
    image = LocalizedImage(torch.rand(3, 48, 48), 7, boxes, "a")
    sample = prepare_sample(image, PREPARE, 7)
    assert sample.inputs.shape == (3, 12, 16)
    assert sample.boxes.tolist() == [[[0, 0, 8, 12]], [[4, 3, 8, 6]]]
    assert sample.mask is None
    evaluate({"map": FirstChannel()}, [sample])


def test_evenly_spaced_indices():
    assert evenly_spaced(100, 4) == [0, 25, 50, 75]
    assert evenly_spaced(3, None) == evenly_spaced(3, 3) == evenly_spaced(3, 9) == [0, 1, 2]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"inputs": torch.zeros(3, 8)}, r"inputs of shape \(3, 8\); expected \(C, H, W\)"),
        (
            {"boxes": torch.zeros(2, 4)},
            r"boxes of shape \(2, 4\).* have 3 frames, so expected \(3, 4\)",
        ),
        ({"boxes": torch.full((3, 4), torch.nan)}, r"Sample 1 has no box in any frame"),
        (
            {"mask": torch.zeros(3, 8, 8)},
            r"mask of shape \(3, 8, 8\), torch.float32; expected .*bool",
        ),
        (
            {"mask": torch.zeros(8, 8) > 0},
            r"mask of shape \(8, 8\), torch.bool; expected \(3, 8, 8\)",
        ),
    ],
)
def test_invalid_samples(change, message):
    first, second = random_samples(2)
    with pytest.raises(ValueError, match=message):
        evaluate({}, [first, second._replace(**change)])


def test_a_crop_is_refused():
    clip = SyntheticActions(1, frames=8, size=48)[0]
    with pytest.raises(ValueError) as error:
        prepare_sample(clip, Preprocessing(size=24, crop=16), 0)
    assert str(error.value) == (
        "The preprocessing crops frames of (48, 48), resized to (24, 24), to (16, 16). No map has "
        "what the network did not see, so that the boxes of a dataset need whole frames: replace "
        "it by size=(16, 16) and crop=None."
    )
    prepare_sample(clip, Preprocessing(size=24, crop=24), 0)  # which cuts nothing
