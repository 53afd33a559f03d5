"""Scores: the tensor among what a model returns, and one number per sample of it."""

import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from networks import conv_net, random_input
from torch import nn

from captum_3dcam import GlobalLocalCAM2D, LayerwiseGradCAM, LayerwiseHiResCAM
from captum_3dcam._targets import select_output, select_probabilities, select_scores, top_classes

# ------------------------------------------------------------------------------ class scores

SCORES = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((1, 2), [6, 18]),
        ((-1, -1), [11, 23]),
        ([(0, 0), (2, 3)], [0, 23]),
    ],
)
def test_targets_of_higher_rank_outputs(target, expected):
    assert select_scores(SCORES, target).tolist() == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (None, [3, 15]),
        (1, [1, 13]),
        (-1, [3, 15]),
        ((2,), [2, 14]),
        (torch.tensor(1), [1, 13]),
        (torch.tensor([1]), [1, 13]),
        (torch.tensor([3, 0]), [3, 12]),
        ([0, 2], [0, 14]),
        ([(0,), (2,)], [0, 14]),
        (SCORES.numpy().argmax() * 0 + 1, [1, 13]),
        (torch.tensor([3, 0]).numpy(), [3, 12]),
        ([torch.tensor(0), torch.tensor(2)], [0, 14]),
    ],
)
def test_targets_of_class_scores(target, expected):
    assert select_scores(SCORES[:, 0], target).tolist() == expected


def test_no_target_takes_each_samples_highest_and_the_lowest_index_on_ties():
    scores = torch.tensor([[1.0, 5.0, 5.0], [7.0, 7.0, 7.0]], requires_grad=True)
    select_scores(scores).sum().backward()
    assert scores.grad.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert top_classes(scores, 3).tolist() == [[1, 2, 0], [0, 1, 2]]
    many = torch.cat([torch.zeros(500), torch.ones(500)])[None].requires_grad_()
    select_scores(many).sum().backward()
    assert many.grad.nonzero().tolist() == [[0, 500]]
    assert top_classes(many, 3).tolist() == [[500, 501, 502]]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (3, 1), (3, 1, 1)])
def test_one_value_per_sample_or_batch_needs_no_target(shape):
    output = torch.arange(float(max(1, torch.Size(shape).numel()))).reshape(shape)
    assert select_scores(output).tolist() == output.flatten().tolist()


@pytest.mark.parametrize(
    ("shape", "target", "error", "message"),
    [
        ((2, 3), 3, IndexError, r"target 3 is out of range: axis 1 .* \(2, 3\), takes 0 to 2"),
        ((2, 3), -4, IndexError, "target -4 is out of range"),
        ((2, 3), [0, -1], IndexError, "target -1 is out of range"),
        ((2, 3), torch.tensor([0, 9]), IndexError, "target 9 is out of range"),
        ((2, 3, 4), (2, 4), IndexError, r"target 4 is out of range: axis 2 .* takes 0 to 3"),
        ((2, 3), [0], ValueError, "target has 1 entries for a batch of 2"),
        ((2, 3), (0, 1), ValueError, r"target \(0, 1\) does not fit an output of shape \(2, 3\)"),
        ((2, 3, 4, 5), [(0, 1), (1, 0)], ValueError, r"selects \(2, 5\) values .* one per sample"),
        ((2, 3, 4), 3, IndexError, r"target 3 is out of range: axis 1 .* takes 0 to 2"),
        ((2, 3), 1.5, TypeError, "target must be None, an int, .* received 1.5"),
        ((2, 3), "cat", TypeError, "received 'cat'"),
        ((2, 3), slice(0, 1), TypeError, "received slice"),
        ((2, 3), torch.tensor([0.5, 1.0]), TypeError, "target must be None, an int"),
        ((2,), 0, ValueError, r"target \(0,\) is not needed: .* Pass target=None"),
        ((2, 3), True, TypeError, "target must be None, an int, .* received True"),
        ((2, 3), torch.tensor([True, False]), TypeError, "target must be None, an int"),
        ((2, 3), [1, (2,)], TypeError, "or a list of ints or of tuples"),
        ((), 0, ValueError, "output is a single number, so it takes no target"),
        ((2, 3, 4), None, ValueError, r"An output of shape \(2, 3, 4\) needs a target"),
    ],
)
def test_wrong_targets_are_named(shape, target, error, message):
    with pytest.raises(error, match=message):
        select_scores(torch.zeros(shape), target)


@pytest.mark.parametrize("k", [0, 4, -1, 2.0, "2", None])
def test_k_is_from_one_to_the_number_of_classes(k):
    with pytest.raises(ValueError, match=f"k must be from 1 to the 3 classes; received {k!r}"):
        top_classes(torch.zeros(2, 3), k)


def test_top_classes_needs_class_scores():
    with pytest.raises(ValueError, match=r"needs scores of shape \(N, classes\); .* \(2, 3, 4\)"):
        top_classes(torch.zeros(2, 3, 4), 1)


@pytest.mark.parametrize("target", [-1, -3, [2, 0], (1,), torch.tensor([1, 2])])
def test_a_target_explains_the_score_that_it_names(target):
    """From the end as from the start, except for a list, which Captum gathers."""
    net, x = conv_net(2), random_input(2, (6, 6))
    per_sample = target if isinstance(target, (list, torch.Tensor)) else [target] * 2
    columns = [entry[0] if isinstance(entry, tuple) else int(entry) for entry in per_sample]

    def forward_func(x):
        return torch.stack([row[column] for row, column in zip(net(x), columns, strict=True)])

    attribution = LayerwiseHiResCAM(net, "0").attribute(x, target)
    assert attribution.any()
    expected = LayerwiseHiResCAM(forward_func, net[0]).attribute(x)
    torch.testing.assert_close(attribution, expected)


# ------------------------------------------------------------------------------- segmentation


def segmentation_by_hand(output, classes):
    """Σ of a class's scores over the positions where it has the highest score, the first of them
    on ties; of one channel, where it is positive."""
    scores = []
    for sample, target in zip(output, classes, strict=True):
        target = target % len(sample)
        total = 0.0
        for position in range(sample[0].numel()):
            values = sample.flatten(1)[:, position].tolist()
            highest = values.index(max(values))
            predicted = values[0] > 0 if len(values) == 1 else highest == target
            total += values[target] if predicted else 0.0
        scores.append(total)
    return scores


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 4, 2, 3, 3), (2, 1, 4, 5)])
@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (0, [0, 0]),
        (-1, [-1, -1]),
        ([0, -1], [0, -1]),
        (torch.tensor([0, 0]), [0, 0]),
        (torch.tensor(0), [0, 0]),
    ],
)
def test_a_class_of_a_segmentation_is_the_sum_where_it_is_predicted(shape, target, classes):
    output = torch.randn(shape).round(decimals=1)
    scores = select_scores(output, target)
    assert scores.tolist() == pytest.approx(segmentation_by_hand(output, classes), abs=1e-5)


def test_of_classes_that_tie_the_first_is_predicted():
    output = torch.ones(1, 3, 4)
    assert [select_scores(output, target).item() for target in range(3)] == [4, 0, 0]


def test_the_map_of_a_class_of_a_segmentation():
    net, x = nn.Sequential(conv_net(2)[0], nn.Conv2d(3, 4, 3, padding=1)), random_input(2, (6, 7))

    def by_hand(x):
        scores = net(x)
        return scores[:, 2].where(scores.argmax(1) == 2, 0).sum((1, 2))

    expected = GlobalLocalCAM2D(by_hand, net[0]).attribute(x)
    assert expected.any()
    torch.testing.assert_close(GlobalLocalCAM2D(net, "0").attribute(x, target=2), expected)
    torch.testing.assert_close(GlobalLocalCAM2D(net, "0").attribute(x, target=[2, -2]), expected)
    of_classes = GlobalLocalCAM2D(net, "0").attribute_classes(x, [2, (2, 3, 4)])
    torch.testing.assert_close(of_classes[:, :1], expected)
    pixel = GlobalLocalCAM2D(lambda x: net(x)[:, 2, 3, 4], net[0]).attribute(x)
    torch.testing.assert_close(of_classes[:, 1:], pixel)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3, IndexError, r"target 3 is out of range: axis 1 .* \(2, 3, 4, 5\), takes 0 to 2"),
        ([0, -4], IndexError, "target -4 is out of range: axis 1"),
        ([0], ValueError, "target has 1 entries for a batch of 2"),
        (None, ValueError, "needs a target: of a segmentation, a class or a tuple"),
        ((1,), ValueError, r"target=\(1,\) selects \(2, 4, 5\) values"),
    ],
)
def test_wrong_targets_of_a_segmentation(target, error, message):
    with pytest.raises(error, match=message):
        select_scores(torch.zeros(2, 3, 4, 5), target)


# ----------------------------------------------------------------------------------- functions


def test_a_function_of_the_output_is_a_target():
    net, x = conv_net(2), random_input(2, (6, 6))

    def margin(output):
        return output[:, 1] - output[:, 2]

    cam = LayerwiseHiResCAM(net, "0")
    expected = LayerwiseHiResCAM(lambda x: margin(net(x)), net[0]).attribute(x)
    assert expected.any()
    torch.testing.assert_close(cam.attribute(x, margin), expected)
    maps = cam.attribute_classes(x, [margin, 1, lambda output: output[:, 1]])
    torch.testing.assert_close(maps[:, :1], expected)
    assert torch.equal(maps[:, 1], maps[:, 2])


def test_a_function_is_given_the_selected_output():
    net, x = conv_net(2), random_input(2, (6, 6))
    cam = LayerwiseHiResCAM(lambda x: {"a": x, "b": net(x)}, net[0], output="b")
    expected = LayerwiseHiResCAM(net, "0").attribute(x, 2)
    torch.testing.assert_close(cam.attribute(x, lambda output: output[:, 2]), expected)


@pytest.mark.parametrize(
    ("function", "received"),
    [
        (lambda output: output, r"shape \(2, 4\)"),
        (lambda output: output[:, :1], r"shape \(2, 1\)"),
        (lambda output: output.sum(), r"shape \(\)"),
        (lambda output: output[:1, 0], r"shape \(1,\)"),
        (lambda output: None, "NoneType"),
        (lambda output: 1.5, "float"),
        (lambda output: output[:, 0].tolist(), "list"),
    ],
)
def test_a_function_that_returns_no_score_per_sample(function, received):
    cam = GlobalLocalCAM2D(conv_net(2), "0")
    message = (
        r"A target function takes the output, of shape \(2, 4\), and returns one score per "
        rf"sample, shape \(2,\); it returned {received}\."
    )
    with pytest.raises(ValueError, match=message):
        cam.attribute(random_input(2, (6, 6)), function)


@pytest.mark.parametrize(
    "function", [lambda output: output[:, 0].detach(), lambda output: output.argmax(1)]
)
def test_a_function_whose_score_has_no_gradient(function):
    with pytest.raises(RuntimeError, match=r"layer\(s\) '0' does not reach the score"):
        GlobalLocalCAM2D(conv_net(2), "0").attribute(random_input(2, (6, 6)), function)


# -------------------------------------------------------------------- the output of the model


@dataclass
class DataClass:
    features: torch.Tensor
    logits: torch.Tensor
    note: str = "text"


@dataclass
class Slotted:
    __slots__ = ("features", "logits")
    features: torch.Tensor
    logits: torch.Tensor


class Properties:
    def __init__(self, features, logits):
        self._both = features, logits

    @property
    def logits(self):
        return self._both[1]


class ModelOutput(OrderedDict):
    """As in transformers: a dict, with its keys as attributes and by position."""

    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else list(self.values())[key]


Pair = namedtuple("Pair", "features logits")
Other = namedtuple("Other", "features classes")
FEATURES, LOGITS = torch.zeros(2, 8), torch.ones(2, 5)


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (LOGITS, None),
        ({"features": FEATURES, "logits": LOGITS}, None),
        ({"out": LOGITS, "aux": FEATURES}, None),
        ({"scores": LOGITS, "note": "text", "nothing": None}, None),
        ([LOGITS], None),
        ((None, LOGITS, "text"), None),
        (Pair(FEATURES, LOGITS), None),
        (DataClass(FEATURES, LOGITS), None),
        (ModelOutput(loss=FEATURES, logits=LOGITS), None),
        (SimpleNamespace(logits=LOGITS, features=FEATURES), None),
        ({"features": FEATURES, "classes": LOGITS}, "classes"),
        ({0: FEATURES, 1: LOGITS}, 1),
        ((FEATURES, LOGITS), 1),
        ((FEATURES, LOGITS), -1),
        ([FEATURES, LOGITS, None], -2),
        (Other(FEATURES, LOGITS), "classes"),
        (Other(FEATURES, LOGITS), 1),
        (Other(FEATURES, LOGITS), -1),
        (DataClass(LOGITS, FEATURES), "features"),
        (Slotted(FEATURES, LOGITS), None),
        (Slotted(FEATURES, LOGITS), "logits"),
        (Properties(FEATURES, LOGITS), "logits"),
        (SimpleNamespace(classes=LOGITS, features=FEATURES), "classes"),
        (ModelOutput(loss=FEATURES, classes=LOGITS), "classes"),
        (ModelOutput(loss=FEATURES, classes=LOGITS), 1),
        ({"heads": {"action": LOGITS}}, lambda returned: returned["heads"]["action"]),
        ({"heads": [FEATURES, (LOGITS,)]}, lambda returned: returned["heads"][1][0]),
        (LOGITS, lambda returned: returned * 1),
        ({"logits": FEATURES}, lambda returned: returned["logits"][:, :5] + 1),
    ],
)
def test_the_scores_are_found_in_what_the_model_returns(returned, output):
    assert torch.equal(select_output(returned, output), LOGITS)


@pytest.mark.parametrize(
    ("returned", "output", "received"),
    [
        (None, None, "NoneType."),
        ([1.0, 2.0], None, "list with [0, 1]."),
        ((FEATURES, LOGITS), None, "tuple with [0, 1]."),
        ({"a": FEATURES, "b": LOGITS}, None, "dict with ['a', 'b']."),
        ({}, None, "dict."),
        (Other(FEATURES, LOGITS), None, "Other with ['features', 'classes']."),
        ({"a": LOGITS}, "b", "dict with ['a']; output='b' selects NoneType."),
        ((FEATURES, LOGITS), 2, "tuple with [0, 1]; output=2 selects NoneType."),
        ((FEATURES, LOGITS), -3, "tuple with [0, 1]; output=-3 selects NoneType."),
        ((FEATURES, LOGITS), "logits", "tuple with [0, 1]; output='logits' selects NoneType."),
        ({"a": "text"}, "a", "dict with ['a']; output='a' selects str."),
        (LOGITS, "logits", "Tensor; output='logits' selects NoneType."),
        (LOGITS, 0, "Tensor; output=0 selects NoneType."),
        (LOGITS, "shape", "Tensor; output='shape' selects NoneType."),
        (LOGITS, ["logits"], "Tensor; output=['logits'] selects NoneType."),
        (DataClass(LOGITS, LOGITS), "classes", "'note']; output='classes' selects NoneType."),
        (LOGITS, len, "Tensor; output=<built-in function len> selects int."),
    ],
)
def test_an_output_without_scores(returned, output, received):
    with pytest.raises(TypeError) as caught:
        select_output(returned, output)
    message = str(caught.value)
    assert message.startswith("forward_func must return a tensor of scores; it returned ")
    assert received in message
    assert message.endswith(
        "Choose the tensor with output=: a key, an attribute, an index, or a function of what the "
        "model returns."
    )


@pytest.mark.parametrize(
    ("pack", "output"),
    [
        (lambda x, y: {"features": x, "classes": y}, "classes"),
        (lambda x, y: (x, y), 1),
        (lambda x, y: DataClass(x, y), None),
        (lambda x, y: ModelOutput(logits=y, features=x), None),
        (lambda x, y: [[x], [y]], lambda returned: returned[1][0]),
    ],
)
def test_a_model_that_returns_more_than_scores_has_the_same_map(pack, output):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x):
            features = self.net[0](x)
            return pack(features, self.net[1:](features))

    model, x = Packed(), random_input(2, (6, 6))
    expected = LayerwiseGradCAM(model.net, "0").attribute_top_k(x, 2)
    cam = LayerwiseGradCAM(model, "net.0", output=output)
    torch.testing.assert_close(cam.attribute_top_k(x, 2), expected)
    torch.testing.assert_close(cam.attribute(x), expected[0][:, :1])
    _, scores = cam.attribute_with_output(x)
    torch.testing.assert_close(scores, model.net(x))
    assert not scores.requires_grad


# ------------------------------------------------------------------------------ several classes


def test_classes_are_separate_calls_from_one_forward():
    net, x = conv_net(2), random_input(2, (6, 6))
    passes = []
    with net[0].register_forward_hook(lambda *args: passes.append(1)):
        maps = LayerwiseHiResCAM(net, ["0", "1"]).attribute_classes(x, (3, -1, [0, 2], None))
    assert len(passes) == 1
    for index, target in enumerate((3, -1, [0, 2], None)):
        expected = LayerwiseHiResCAM(net, ["0", "1"]).attribute(x, target)
        torch.testing.assert_close(maps[:, [index]], expected)
    of_tensor = LayerwiseHiResCAM(net, ["0", "1"]).attribute_classes(x, torch.tensor([3, 3]))
    torch.testing.assert_close(of_tensor, maps[:, :1].expand(-1, 2, -1, -1))


def test_classes_take_the_options_of_attribute():
    net, x = conv_net(2), random_input(2, (6, 6))
    options = {"attribute_to_layer_input": True, "output_size": (3, 5)}
    cam = LayerwiseHiResCAM(lambda x, scale: net(x) * scale, net[1])
    maps = cam.attribute_classes(x, [1], 2.0, **options)
    torch.testing.assert_close(maps, cam.attribute(x, 1, 2.0, **options))


@pytest.mark.parametrize("classes", [[], (), torch.zeros(0, dtype=torch.long)])
def test_no_classes_are_refused(classes):
    with pytest.raises(ValueError, match="classes is empty. Pass at least one class."):
        GlobalLocalCAM2D(conv_net(2), "0").attribute_classes(random_input(1, (6, 6)), classes)


def test_a_class_out_of_range_among_several():
    with pytest.raises(IndexError, match="target 4 is out of range"):
        GlobalLocalCAM2D(conv_net(2), "0").attribute_classes(random_input(1, (6, 6)), [0, 4])


def test_the_output_beside_the_map_is_that_which_it_explains():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_net(2)

        def forward(self, x, scale=1.0):
            return scale * self.net(x + torch.rand(()))

    model, x = Noisy().eval(), random_input(2, (6, 6))
    cam = GlobalLocalCAM2D(model, "net.0")
    generator = torch.get_rng_state()
    expected = model(x, 3.0).detach()
    torch.set_rng_state(generator)
    attribution, output = cam.attribute_with_output(x, 1, 3.0)
    torch.testing.assert_close(output, expected)
    assert not output.requires_grad
    assert torch.equal(attribution, cam.attribute(x, 1, 3.0))


# ------------------------------------------------------------------------------- probabilities


def test_the_probability_of_a_class_and_of_a_single_score():
    output = torch.tensor([[1.0, 3.0, 2.0], [0.5, -1.0, 0.25]])
    by_hand = [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in output]
    for target in range(3):
        expected = [row[target] for row in by_hand]
        assert select_probabilities(output, target).tolist() == pytest.approx(expected)
    assert select_probabilities(output).tolist() == pytest.approx([by_hand[0][1], by_hand[1][0]])
    single = [1 / (1 + math.exp(-value)) for value in (1.0, 0.5)]
    for scores in (output[:, 0], output[:, :1]):
        assert select_probabilities(scores).tolist() == pytest.approx(single)


def test_the_probability_of_a_function_is_the_sigmoid_of_its_value():
    output = torch.tensor([[1.0, 3.0], [0.5, -1.0]])
    found = select_probabilities(output, lambda scores: scores[:, 0] - scores[:, 1])
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1.5))])


def test_the_probability_of_a_segmentation_is_the_mean_where_it_is_predicted():
    output = torch.randn(2, 3, 4, 5)
    for target in range(3):
        for sample, value in zip(output, select_probabilities(output, target), strict=True):
            likely = [
                math.exp(values[target]) / sum(map(math.exp, values))
                for values in sample.flatten(1).T.tolist()
                if values.index(max(values)) == target
            ]
            expected = sum(likely) / len(likely) if likely else 0
            assert value.item() == pytest.approx(expected, abs=1e-6)
    never = torch.zeros(1, 2, 3).index_fill(1, torch.tensor([1]), -1.0)
    assert select_probabilities(never, 1).tolist() == [0]
    masks = torch.tensor([[[2.0, -3.0, 1.0]]])  # of one channel, predicted where it is positive
    expected = (1 / (1 + math.exp(-2)) + 1 / (1 + math.exp(-1))) / 2
    assert select_probabilities(masks, 0).item() == pytest.approx(expected)
