"""The margin between a class and its rivals, as Finer-CAM's score."""

import pytest
import torch
from networks import conv_net, random_input

from captum_3dcam import LayerwiseGradCAM, margin

LOGITS = torch.tensor([[3.0, 1.0, 2.5, -4.0], [0.0, 5.0, 1.0, 4.0]])


def naive(output, target, rivals, alpha):
    """Σ_r p_r (y_t − α y_r) / Σ_r p_r, with p the softmax over all classes."""
    p = output.softmax(dim=1)
    total = sum(p[:, r] * (output[:, target] - alpha * output[:, r]) for r in rivals)
    return total / sum(p[:, r] for r in rivals)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("rivals", [[1], [1, 3], [3, 1, 2]])
def test_it_weights_the_rivals_by_their_probability(rivals, alpha):
    output = LOGITS.double()
    found = margin(0, rivals, alpha=alpha)(output)
    torch.testing.assert_close(found, naive(output, 0, rivals, alpha))


def test_without_rivals_it_takes_the_nearest_scores():
    found = margin([0, 1], count=2)(LOGITS)
    expected = [naive(LOGITS[:1], 0, [2, 1], 1), naive(LOGITS[1:], 1, [3, 2], 1)]
    torch.testing.assert_close(found, torch.cat(expected))


def test_without_a_target_it_takes_the_highest_class_of_each_sample():
    torch.testing.assert_close(margin(rivals=2)(LOGITS), torch.tensor([0.5, 4.0]))


def test_it_takes_all_rivals_if_there_are_fewer():
    two = torch.tensor([[1.0, 4.0]])
    assert margin(0, count=3)(two).tolist() == [-3.0]


def test_any_method_explains_it():
    net, x = conv_net(2), random_input(2, (8, 8))
    found = LayerwiseGradCAM(net, "1").attribute(x, target=margin(0, 2))
    by_hand = LayerwiseGradCAM(net, "1").attribute(x, lambda output: output[:, 0] - output[:, 2])
    torch.testing.assert_close(found, by_hand)


@pytest.mark.parametrize(
    ("target", "rivals", "error", "message"),
    [
        (0, 0, ValueError, r"rivals=\[\[0\]\] has the explained class itself. Name other classes"),
        (0, 4, IndexError, r"Classes \[4\] are out of range: the output has 4 classes, 0 to 3"),
        (-1, 1, IndexError, "out of range"),
        ([0, 1, 2], 1, ValueError, "target has 3 entries for a batch of 2"),
        (0.5, 1, TypeError, "target=0.5: expected classes, integers from 0 on"),
        (0, [], TypeError, r"rivals=\[\]: expected classes"),
        (0, True, TypeError, "rivals=True: expected classes"),
    ],
)
def test_what_is_no_class(target, rivals, error, message):
    with pytest.raises(error, match=message):
        margin(target, rivals)(LOGITS)


def test_an_output_without_classes():
    with pytest.raises(ValueError, match=r"\(N, classes\) of two or more; the output has \(2, 1\)"):
        margin(0)(LOGITS[:, :1])


def test_options_are_checked_at_once():
    with pytest.raises(ValueError, match="count=0: expected an integer, 1 or more"):
        margin(0, count=0)
    with pytest.raises(TypeError, match="alpha='high': expected a number"):
        margin(0, alpha="high")
