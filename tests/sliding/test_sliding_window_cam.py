"""Windows: each as the plain attribution, their blend from its definition, streams, scenes."""

import gc
import subprocess
import sys
import weakref
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, NoiseTunnel
from captum.metrics import sensitivity_max
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import conv_net, random_input
from torch import nn

from captum_3dcam import (
    CounterfactualCAM,
    GlobalLocalCAM3D,
    Layer,
    LayerwiseGlobalLocalCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
    functional,
)
from captum_3dcam.attribution import LayerwiseCAM
from captum_3dcam.sliding import SlidingWindowCAM, Window
from captum_3dcam.sliding._windows import blend, rows, scene_parts, window_starts

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = [
    LayerwiseGlobalLocalCAM,
    CounterfactualCAM,
    LayerwiseGradCAM,
    LayerwiseHiResCAM,
    LayerwiseWhatWhereCAM,
]


@st.composite
def cases(draw, most_cut=3):
    """A network of some rank, an input for it, and windows along the first few of its axes."""
    rank = draw(st.integers(1, 3))
    cut = draw(st.integers(1, min(rank, most_cut)))
    size = tuple(draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank)))
    window = tuple(draw(st.integers(2, 6)) for _ in range(cut))
    stride = tuple(draw(st.integers(1, w)) for w in window)
    seed = draw(st.integers(0, 10**6))
    return conv_net(rank, seed=seed), random_input(1, size, seed=seed), window, stride


def decisive(net):
    """Logits far apart, so that windows differ in class and probability."""
    net[-1].weight.data *= 20
    return net


def chunked(x, lengths):
    """(C, T, *S) in chunks of these lengths over and over."""
    at, found = 0, []
    while at < x.shape[1]:
        length = lengths[len(found) % len(lengths)]
        found.append(x[:, at : at + length])
        at += length
    return found


def joined(pieces):
    return torch.cat([piece.attribution for piece in pieces], dim=2)


# --------------------------------------------------------------------------- the definition


def naive(method, x, window, stride, target, scale):
    """Window by window with the plain attribution, and Σ w f M / Σ w in double precision."""
    net = method.forward_func
    size = x.shape[2:]
    window = (*window, *size[len(window) :])
    stride = (*stride, *size[len(stride) :])
    top, bottom = np.zeros(size), np.zeros(size)
    found = []
    axes = []
    for length, w, s in zip(size, window, stride, strict=True):
        regular = [a for a in range(0, length, s) if a + w <= length] or [0]
        missed = regular[-1] + w < length
        axes.append([*regular, length - w] if missed else regular)
    for start in product(*axes):
        index = np.ix_(*[
            np.minimum(np.arange(a, a + w), n - 1)
            for a, w, n in zip(start, window, size, strict=True)
        ])  # fmt: skip
        values = torch.from_numpy(x.numpy()[(slice(None), slice(None), *index)])
        logits = net(values).detach()[0].double().numpy()
        highest = int(logits.argmax())
        explained = highest if target is None else target
        probability = np.exp(logits - logits.max())[explained] / np.exp(logits - logits.max()).sum()
        factors = {
            "window": 1.0,
            "probability": probability,
            "score": max(logits[explained], 0.0),
        }
        plain = method.attribute(values, explained)[0, 0].double().numpy()
        found.append((start, highest, explained, logits[explained], factors[scale]))
        for place in np.ndindex(*window):
            there = tuple(a + p for a, p in zip(start, place, strict=True))
            if all(t < n for t, n in zip(there, size, strict=True)):
                weight = np.prod([min(p + 1, w - p) for p, w in zip(place, window, strict=True)])
                top[there] += weight * factors[scale] * plain[place]
                bottom[there] += weight
    return top / bottom, found


@settings(max_examples=60)
@given(
    cases(),
    st.sampled_from(METHODS),
    st.sampled_from(["window", "probability", "score"]),
    st.sampled_from([None, 0, 2]),
    st.integers(1, 5),
)
def test_agrees_with_the_naive_derivation(case, method, scale, target, batch_size):
    net, x, window, stride = case
    attribution = method(net, ["0", "1"])
    sliding = SlidingWindowCAM(attribution, window, stride, batch_size=batch_size, scale=scale)
    found = sliding.attribute_windows(x, target)
    expected, windows = naive(attribution, x, window, stride, target, scale)
    np.testing.assert_allclose(found.attribution[0, 0].numpy(), expected, atol=1e-4, rtol=1e-4)
    assert len(found.windows[0]) == len(windows)
    for mine, (start, highest, explained, score, factor) in zip(
        found.windows[0], windows, strict=True
    ):
        assert mine.start == start
        cut = zip(x.shape[2:], (*window, *x.shape[2 + len(window) :]), start, strict=True)
        assert mine.stop == tuple(min(a + w, n) for n, w, a in cut)
        assert (mine.predicted, mine.target) == (highest, explained)
        assert mine.score == pytest.approx(score, abs=1e-5)
        assert mine.factor == pytest.approx(factor, abs=1e-5)


@settings(max_examples=40)
@given(cases(), st.sampled_from(METHODS))
def test_one_window_over_all_is_the_plain_attribution_to_the_bit(case, method):
    net, x, _, _ = case
    plain = method(net, ["0", "1"])
    sliding = SlidingWindowCAM(plain, x.shape[2:], scale="window")
    assert torch.equal(sliding.attribute(x), plain.attribute(x))
    (window,) = sliding.attribute_windows(x).windows[0]
    assert (window.start, window.stop) == ((0,) * (x.ndim - 2), tuple(x.shape[2:]))


@settings(max_examples=30)
@given(cases())
def test_an_input_shorter_than_the_window_repeats_its_edge(case):
    net, x, _, _ = case
    size = tuple(n + 3 for n in x.shape[2:])
    plain = LayerwiseGlobalLocalCAM(net, ["0", "1"])
    found = SlidingWindowCAM(plain, size, scale="window").attribute(x)
    padded = x
    for axis in range(2, x.ndim):
        edge = padded.narrow(axis, x.shape[axis] - 1, 1)
        padded = torch.cat([padded, edge, edge, edge], dim=axis)
    cropped = plain.attribute(padded)[(..., *map(slice, x.shape[2:]))]
    assert torch.equal(found, cropped)


class Constant(LayerwiseCAM):
    """1 everywhere, whatever the model."""

    rule = staticmethod(lambda activation, gradient: (torch.ones_like(activation[:, :1]),))


@settings(max_examples=40)
@given(cases(), st.floats(0.125, 1024, width=32))
def test_a_constant_map_stays_constant_to_the_bit(case, value):
    net, x, window, stride = case
    sliding = SlidingWindowCAM(
        Constant(net, "0"), window, stride, scale=lambda scores: torch.full_like(scores, value)
    )
    assert (sliding.attribute(x) == value).all()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=3),
    st.data(),
)
def test_the_weights_of_all_windows_sum_to_one_everywhere(axes, data):
    """A window's weights: the blend of 1 in it and 0 in all the others."""
    size, window = (tuple(axis) for axis in zip(*axes, strict=True))
    window = tuple(min(w, n) for w, n in zip(window, size, strict=True))
    stride = tuple(data.draw(st.integers(1, w)) for w in window)
    starts = [window_starts(n, w, s) for n, w, s in zip(size, window, stride, strict=True)]
    places = [
        Window(a, tuple(i + w for i, w in zip(a, window, strict=True)), None, None, 0.0, 1.0)
        for a in product(*starts)
    ]
    total = torch.zeros(size)
    for chosen in places:
        maps = [(place, torch.full((1, *window), float(place is chosen))) for place in places]
        weights = torch.cat([strip.values for strip in blend(maps, window, size[1:])], 1)[0]
        inside = tuple(slice(a, b) for a, b in zip(chosen.start, chosen.stop, strict=True))
        assert (weights[inside] > 0).all()
        assert weights.sum() == pytest.approx(float(weights[inside].sum()), rel=1e-6)
        total += weights
    torch.testing.assert_close(total, torch.ones(size), atol=1e-5, rtol=0)


def test_overlapping_windows_leave_no_seam():
    """Two flat maps of another height each: from one to the other in small steps."""
    windows = [Window((a,), (a + 8,), None, None, 0.0, 1.0) for a in (0, 4, 8)]
    maps = [(window, torch.full((1, 8), float(i))) for i, window in enumerate(windows)]
    found = torch.cat([strip.values for strip in blend(maps, (8,), ())], 1)[0]
    assert found[0] == 0
    assert found[-1] == 2
    steps = found.diff()
    assert (steps >= 0).all()
    # A plain mean of what overlaps would jump by 1.
    assert steps.max() < 0.5


# ------------------------------------------------------------------------------- invariants


@settings(max_examples=30)
@given(cases(), st.integers(2, 5))
def test_a_batch_of_windows_equals_one_by_one(case, batch_size):
    net, x, window, stride = case
    one, several = (
        SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), window, stride, batch_size=size)
        for size in (1, batch_size)
    )
    torch.testing.assert_close(several.attribute(x), one.attribute(x), atol=1e-5, rtol=1e-4)


@settings(max_examples=20)
@given(cases())
def test_samples_equal_one_by_one(case):
    net, x, window, stride = case
    x = torch.cat([x, -x, 2 * x])
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), window, stride)
    found = sliding.attribute_windows(x, target=[2, 0, 1])
    for i, target in enumerate([2, 0, 1]):
        alone = sliding.attribute_windows(x[i : i + 1], target)
        assert torch.equal(found.attribution[i : i + 1], alone.attribution)
        assert found.windows[i] == alone.windows[0]
        assert {window.target for window in alone.windows[0]} == {target}


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(3, 6))
def test_a_shift_by_a_stride_shifts_the_map_away_from_the_borders(rank, stride, overlap, steps):
    window = stride * (overlap + 1)
    length = window + stride * steps
    net, x = conv_net(rank), random_input(1, (length, 6, 5)[:rank], seed=rank)
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), window, stride)
    whole, shifted = sliding.attribute(x), sliding.attribute(x[:, :, stride:])
    # Up to here the first window of the whole reaches, which the shifted input does not have.
    away = window - stride
    torch.testing.assert_close(shifted[:, :, away:], whole[:, :, window:], atol=1e-5, rtol=1e-4)
    assert whole[:, :, window:].any()


def test_a_whole_axis_by_none_or_by_silence():
    net, x = conv_net(3), random_input(1, (4, 6, 7))
    plain = LayerwiseGlobalLocalCAM(net, ["0", "1"])
    cut = SlidingWindowCAM(plain, (None, 4), 2)
    assert cut.window == (None, 4)
    assert cut.stride == (None, 2)
    found = cut.attribute_windows(x)
    assert [(w.start, w.stop) for w in found.windows[0]] == [
        ((0, 0, 0), (4, 4, 7)),
        ((0, 2, 0), (4, 6, 7)),
    ]
    named = SlidingWindowCAM(plain, (4, 4, 7), (4, 2, 7)).attribute(x)
    assert torch.equal(found.attribution, named)
    assert SlidingWindowCAM(plain, 5).stride == (2,)
    assert SlidingWindowCAM(plain, 1).stride == (1,)


# ------------------------------------------------------------------------------------ streams


@settings(max_examples=60)
@given(
    cases(),
    st.lists(st.integers(1, 7), min_size=1, max_size=4),
    st.sets(st.integers(1, 8), max_size=3),
    st.sampled_from([None, 1]),
    st.integers(1, 4),
)
def test_a_stream_gives_the_map_of_the_whole_to_the_bit(case, lengths, cuts, target, batch_size):
    net, x, window, stride = case
    boundaries = sorted(cut for cut in cuts if cut < x.shape[2])
    sliding = SlidingWindowCAM(
        LayerwiseGlobalLocalCAM(net, ["0", "1"]), window, stride, batch_size=batch_size
    )
    whole = sliding.attribute_windows(x, target, boundaries=boundaries)
    pieces = list(sliding.stream(chunked(x[0], lengths), target, boundaries=boundaries))
    assert torch.equal(joined(pieces), whole.attribution)
    assert [window for piece in pieces for window in piece.windows] == whole.windows[0]
    at = 0
    for piece in pieces:
        assert piece.start == at
        assert piece.windows
        assert {window.start[0] for window in piece.windows} == {at}
        at += piece.attribution.shape[2]


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 9), st.data())
def test_windows_of_a_stream_lie_where_those_of_the_whole_do(length, window, data):
    stride = data.draw(st.integers(1, window))
    lengths = data.draw(st.lists(st.integers(1, 11), min_size=1, max_size=4))
    x = torch.arange(float(length))[None]
    found = list(rows(chunked(x, lengths), window, stride))
    assert [start for start, _ in found] == window_starts(length, window, stride)
    for start, row in found:
        assert torch.equal(row, x[:, start : start + window])


def test_a_stream_holds_a_few_windows_only():
    """Of the frames that went in, and of the map that is not out yet."""
    alive = []
    net = conv_net(3, channels=2, inputs=1)
    window, stride, batch_size, chunk = 8, 4, 3, 5
    read = [0]

    def chunks():
        for number in range(60):
            frames = np.full((1, chunk, 3, 3), number, np.float32)
            alive.append(weakref.ref(frames))
            read[0] += chunk
            yield torch.from_numpy(frames)
            del frames

    sliding = SlidingWindowCAM(
        LayerwiseGlobalLocalCAM(net, ["0"]), window, stride, batch_size=batch_size
    )
    most_alive = most_ahead = 0
    for piece in sliding.stream(chunks(), target=0):
        most_alive = max(most_alive, sum(ref() is not None for ref in alive))
        most_ahead = max(most_ahead, read[0] - piece.start)
    assert read[0] == 300
    frames_of_a_batch = window + (batch_size - 1) * stride
    assert most_ahead <= frames_of_a_batch + stride + 2 * chunk
    assert most_alive * chunk <= frames_of_a_batch + 2 * chunk


def test_what_is_kept_of_a_stream_is_a_window_and_a_chunk():
    frame, window, chunk = 4 * 3 * 3, 8, 5
    for _, row in rows(torch.rand(1, 300, 3, 3).split(chunk, dim=1), window, stride=3):
        # A row is a view of all that is kept, but of the first chunks, which are views themselves.
        kept = row.untyped_storage().nbytes()
        assert kept <= (window + chunk) * frame


STREAMING = """
import resource, sys, torch
from torch import nn
from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.sliding import SlidingWindowCAM, shot_boundaries

torch.set_num_threads(1)
head = [nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten()]
net = nn.Sequential(nn.Conv3d(3, 2, 1, stride=(1, 4, 4)), *head)
sliding = SlidingWindowCAM(GlobalLocalCAM3D(net, "0"), 16, 16, batch_size=2)

def chunks():
    for _ in range(int(sys.argv[1])):
        yield torch.rand(3, 16, 64, 64)

assert sliding.whole_target(chunks()) in (0, 1)
assert shot_boundaries(chunks()) == []
for piece in sliding.stream(chunks()):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is counted otherwise")
def test_ten_times_the_length_takes_the_same_memory():
    """In KiB. The longer video has 270 MiB more of frames, and 90 MiB more of map."""
    peaks = []
    for count in (40, 400):
        command = [sys.executable, "-c", STREAMING, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 30 * 1024


@pytest.mark.parametrize("method", METHODS)
def test_windows_leave_nothing_behind_for_the_collector(method):
    """Which runs seldom, while each window would leave a graph."""
    net, alive = conv_net(1), []
    net[0].register_forward_hook(lambda module, args, output: alive.append(weakref.ref(output)))
    sliding = SlidingWindowCAM(method(net, ["0", "1"]), 4, 4, batch_size=1)
    gc.collect()
    gc.disable()
    try:
        for number, _ in enumerate(sliding.stream((torch.rand(2, 8) for _ in range(9)), 0)):
            assert sum(reference() is not None for reference in alive) <= 1, number
    finally:
        gc.enable()
    assert len(alive) >= 18


def test_a_stream_is_read_as_far_as_it_is_asked_for():
    net = conv_net(1)

    def chunks():
        yield torch.rand(2, 20)
        raise KeyError("not asked for yet")

    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, "0"), 4, 4, batch_size=1)
    pieces = sliding.stream(chunks())
    assert [next(pieces).start for _ in range(4)] == [0, 4, 8, 12]
    with pytest.raises(KeyError):
        list(pieces)


# ------------------------------------------------------------------------------------- scenes


@settings(max_examples=40)
@given(cases(), st.sets(st.integers(1, 8), min_size=1, max_size=3), st.sampled_from([None, 2]))
def test_scenes_are_explained_as_if_alone(case, cuts, target):
    net, x, window, stride = case
    cuts = sorted(cut for cut in cuts if cut < x.shape[2])
    assume(cuts)
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), window, stride)
    found = sliding.attribute_windows(x, target, boundaries=cuts)
    ends = [0, *cuts, x.shape[2]]
    scenes = [x[:, :, a:b] for a, b in pairwise(ends)]
    alone = torch.cat([sliding.attribute(scene, target) for scene in scenes], dim=2)
    assert torch.equal(found.attribution, alone)
    for each in found.windows[0]:
        assert not any(each.start[0] < cut < each.stop[0] for cut in cuts)


def test_parts_know_the_first_frame_of_their_scene():
    chunks = [torch.arange(a, a + 5.0)[None] for a in (0, 5, 10)]
    found = [(scene, part[0].tolist()) for scene, part in scene_parts(chunks, [2, 3, 5, 12])]
    assert found == [
        (0, [0, 1]),
        (2, [2]),
        (3, [3, 4]),
        (5, [5, 6, 7, 8, 9]),
        (5, [10, 11]),
        (12, [12, 13, 14]),
    ]


def test_a_map_does_not_smear_over_a_boundary():
    """A bright scene, then a black one, through temporal convolutions."""
    net = nn.Sequential(
        nn.Conv3d(1, 1, (5, 1, 1), stride=(2, 1, 1), padding=(2, 0, 0), bias=False),
        nn.Conv3d(1, 1, (3, 1, 1), padding=(1, 0, 0), bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    )
    for convolution in net[:2]:
        convolution.weight.data.fill_(1.0)
    video = torch.cat([torch.ones(1, 1, 12, 4, 4), torch.zeros(1, 1, 12, 4, 4)], dim=2)
    sliding = SlidingWindowCAM(GlobalLocalCAM3D(net, ["0", "2"]), 8, 4)

    def smeared(**options):
        """The share of the map that lies over the black scene."""
        profile = functional.temporal_profile(sliding.attribute(video, **options))[0]
        return float(profile[12:].sum() / profile.sum())

    assert smeared() == pytest.approx(0.0913, abs=1e-3)
    assert smeared(boundaries=[12]) == 0


def leak(sliding, first, other, second, **options):
    """How much of the map over ``second`` hangs on what was shown before it, 0 to 1."""
    one, two = (
        sliding.attribute(torch.cat([before, second], dim=2), **options)[:, :, before.shape[2] :]
        for before in (first, other)
    )
    return float((one - two).abs().sum() / (one + two).sum())


@pytest.mark.parametrize("target", [None, 1])
def test_what_came_before_a_boundary_does_not_matter(target):
    net = decisive(conv_net(3, depth=3))
    first, other, second = (random_input(1, (12, 6, 6), seed=seed) for seed in (1, 2, 3))
    sliding = SlidingWindowCAM(GlobalLocalCAM3D(net, ["0", "1", "2"]), 8, 4)
    assert leak(sliding, first, other, second, target=target) > 0.04
    assert leak(sliding, first, other, second, target=target, boundaries=[12]) == 0


# ----------------------------------------------------------------------- targets and scales


class Quiet(nn.Module):
    """(N, 1, T, 4, 4) -> logits of two classes: how bright the clip is, and a constant."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv3d(1, 2, 1, bias=False)
        self.features.weight.data.fill_(1.0)

    def forward(self, x):
        bright = self.features(x).relu().mean(dim=(1, 2, 3, 4))
        return torch.stack([20 * bright, torch.full_like(bright, 4.0)], dim=1)


def test_a_quiet_window_does_not_glow_as_a_decisive_one():
    """By itself each window's map has its peak at 1."""
    x = torch.full((1, 1, 16, 4, 4), 0.01)
    x[:, :, 8:] = 1.0
    quiet, loud = slice(0, 8), slice(8, 16)

    def peaks(scale):
        method = LayerwiseGradCAM(Quiet(), "features")
        found = SlidingWindowCAM(method, 8, 8, scale=scale).attribute(x, target=0)[0, 0]
        return float(found[quiet].max()), float(found[loud].max())

    assert peaks("window") == (1, 1)
    dim, bright = peaks("probability")
    assert dim == pytest.approx(1 / (1 + np.exp(4 - 0.2)), rel=1e-4)
    assert bright == pytest.approx(1, abs=1e-4)
    assert peaks("score") == pytest.approx((0.2, 20), rel=1e-4)
    assert peaks(lambda scores: scores / 20) == pytest.approx((0.01, 1), rel=1e-4)


def test_each_window_has_its_own_highest_class_or_all_have_one():
    net, x = decisive(conv_net(2, seed=11)), random_input(2, (20, 5), seed=11)
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), 5, 5)
    clips = [x[:, :, a : a + 5] for a in (0, 5, 10, 15)]
    logits = torch.stack([net(clip) for clip in clips], dim=1).detach()
    own = sliding.attribute_windows(x).windows
    assert [[w.predicted for w in windows] for windows in own] == logits.argmax(2).tolist()
    assert [[w.target for w in windows] for windows in own] == logits.argmax(2).tolist()
    assert len({w.target for w in own[0]}) > 1
    whole = sliding.attribute_windows(x, target="whole")
    expected = logits.softmax(2).mean(1).argmax(1).tolist()
    assert [{w.target for w in windows} for windows in whole.windows] == [{c} for c in expected]
    assert torch.equal(whole.attribution, sliding.attribute(x, target=expected))
    for i, target in enumerate(expected):
        assert sliding.whole_target(x[i].split(3, dim=1)) == target


def test_the_class_of_the_whole_is_that_of_the_mean_probability_not_of_the_most_windows():
    """Two windows prefer class 0, one is sure of class 1."""

    class Says(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()

        def forward(self, x):
            mean = self.first(x).mean(dim=(1, 2))
            return torch.stack([torch.zeros_like(mean), mean], dim=1)

    x = torch.cat([torch.full((1, 1, 8), -1.0), torch.full((1, 1, 4), 9.0)], dim=2)
    sliding = SlidingWindowCAM(LayerwiseGradCAM(Says(), "first"), 4, 4)
    assert [w.predicted for w in sliding.attribute_windows(x).windows[0]] == [0, 0, 1]
    assert sliding.whole_target([x[0]]) == 1
    # With scenes, the windows are those within them.
    assert sliding.whole_target([x[0]], boundaries=[1, 2, 3, 4, 5, 6, 7, 8]) == 0


@pytest.mark.parametrize("target", [1, torch.tensor(1), np.int64(1), torch.tensor([1]), [1, 1]])
def test_a_target_in_any_form(target):
    net, x = conv_net(2), random_input(2, (9, 5))
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0"]), 4)
    assert torch.equal(sliding.attribute(x, target), sliding.attribute(x, 1))
    assert sliding.attribute_windows(x, target).windows[0][0].target == 1
    other = np.array([1, 0])
    assert torch.equal(sliding.attribute(x, other)[1], sliding.attribute(x, 0)[1])


def test_one_score_takes_the_sigmoid():
    for head in (nn.Flatten(start_dim=1), nn.Flatten(start_dim=0)):
        net = nn.Sequential(nn.Conv1d(2, 1, 3, padding=1), nn.AdaptiveAvgPool1d(1), head).eval()
        x = random_input(1, (9,))
        sliding = SlidingWindowCAM(LayerwiseGradCAM(net, "0"), 3, 3)
        for window, clip in zip(
            sliding.attribute_windows(x).windows[0], x.split(3, dim=2), strict=True
        ):
            score = float(net(clip).detach())
            assert (window.predicted, window.target) == (None, None)
            assert window.score == pytest.approx(score, abs=1e-6)
            assert window.factor == pytest.approx(1 / (1 + np.exp(-score)), abs=1e-6)


def test_a_place_of_a_segmentation():
    net = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.Conv1d(3, 4, 1)).eval()
    x = random_input(1, (10,))
    sliding = SlidingWindowCAM(LayerwiseHiResCAM(net, "0"), 5, 5)
    for window, clip in zip(
        sliding.attribute_windows(x, (2, 3)).windows[0], x.split(5, dim=2), strict=True
    ):
        assert (window.predicted, window.target) == (None, (2, 3))
        output = net(clip).detach()
        assert window.score == pytest.approx(float(output[0, 2, 3]), abs=1e-6)
        assert window.factor == pytest.approx(float(output.softmax(1)[0, 2, 3]), abs=1e-6)


def test_additional_arguments_go_on_with_every_batch():
    class Scaled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x, factor, slope=0.0):
            return factor * self.net(x) + slope * torch.arange(4)

    net, x = conv_net(1), random_input(1, (20,))
    sliding = SlidingWindowCAM(LayerwiseGradCAM(Scaled(net), net[0]), 4, 4, batch_size=2)
    plain = sliding.attribute_windows(x, 1, 1.0).windows[0]
    tripled = sliding.attribute_windows(x, 1, (3.0, 0.5)).windows[0]
    for one, three in zip(plain, tripled, strict=True):
        assert three.score == pytest.approx(3 * one.score + 0.5, abs=1e-5)
    logits = torch.cat([net(clip) for clip in x.split(4, dim=2)]).detach()
    for factor in (1.0, -1.0):
        highest = (factor * logits).softmax(1).mean(0).argmax()
        assert sliding.whole_target([x[0]], factor) == highest
    assert sliding.whole_target([x[0]], (1.0, 90.0)) == 3
    assert sliding.whole_target([x[0]], (1.0, -90.0)) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    net, x = conv_net(2).to(dtype), random_input(1, (9, 5)).to(dtype)
    found = SlidingWindowCAM(LayerwiseGradCAM(net, "0"), 4).attribute(x)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found.any()


# -------------------------------------------------------------------------- the model stays


class Interrupted(nn.Module):
    """Batch norm and dropout in train mode, and an exception at a given call."""

    calls = 0  # of the class: a model's own attributes are restored

    def __init__(self, at, error):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten())
        self.at, self.error = at, error
        Interrupted.calls = 0

    def forward(self, x):
        Interrupted.calls += 1
        y = self.head(self.body(x))
        if Interrupted.calls == self.at:
            raise self.error
        return y


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("target", [None, "whole"])
@pytest.mark.parametrize("at", [1, 3, None])
def test_the_model_is_as_it_was(error, target, at):
    net = Interrupted(at, error).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    attribution = LayerwiseGlobalLocalCAM(net, "body")
    sliding = SlidingWindowCAM(attribution, 4, 4, batch_size=1)
    x = random_input(1, (24,))
    if at is None:
        sliding.attribute(x, target)
    else:
        with pytest.raises(type(error)):
            sliding.attribute(x, target)
    assert net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert attribution.forward_func is net


class Hoarding(nn.Module):
    """Keeps what it returned, in a container that is too deep to be restored."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv3d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv3d(4, 4, 3, 2, 1), nn.ReLU(),
            nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip
        self.kept = {"outputs": [[]]}

    def forward(self, x):
        output = self.net(x)
        self.kept["outputs"][0].append(output)
        return output


@pytest.mark.filterwarnings("ignore:.*zero everywhere")
@pytest.mark.parametrize("cam_class", METHODS)
def test_the_windows_of_a_discarded_model_are_freed(cam_class):
    """Whatever the rule holds of the layers: a graph leads to it, and must not lead back."""
    model = Hoarding().eval()
    layers = [Layer(model.net[1]), Layer("net.3", layout="N C T H W")]
    sliding = SlidingWindowCAM(cam_class(model, layers), (4, 8, 8), (2, 4, 4))
    sliding.attribute(torch.rand(1, 3, 8, 16, 16), 0)
    outputs = [weakref.ref(output) for output in model.kept["outputs"][0]]
    assert len(outputs) > 2
    del model, layers, sliding
    gc.collect()
    assert all(output() is None for output in outputs)


def test_a_stream_that_is_left_leaves_the_model():
    net = Interrupted(None, None).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    sliding = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, "body"), 4, 4, batch_size=1)
    pieces = sliding.stream([random_input(1, (24,))[0]])
    next(pieces)
    pieces.close()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


def test_random_chunks_go_on_drawing():
    """The generators are put back around the model, not around the caller's stream."""

    def chunks():
        for _ in range(3):
            yield torch.rand(2, 8)

    sliding = SlidingWindowCAM(LayerwiseGradCAM(conv_net(1), "0"), 4, 4)
    before = torch.get_rng_state()
    sliding.whole_target(chunks())
    assert not torch.equal(torch.get_rng_state(), before)


def test_functions_of_networks_are_followed():
    """A function of the model, as forward_func: its buffers kept."""
    net, x = conv_net(1, norm=True).train(), random_input(1, (12,))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    of_function = SlidingWindowCAM(
        LayerwiseGradCAM(lambda y: net(y) * 2, net[0]), 4
    ).attribute_windows(x, 1)
    of_net = SlidingWindowCAM(LayerwiseGradCAM(net, "0"), 4).attribute_windows(x, 1)
    for mine, plain in zip(of_function.windows[0], of_net.windows[0], strict=True):
        assert mine.score == pytest.approx(2 * plain.score, abs=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


# ---------------------------------------------------------------------------------- progress


def test_progress_counts_frames(capsys):
    sliding = SlidingWindowCAM(LayerwiseGradCAM(conv_net(1), "0"), 4)
    x = random_input(2, (11,))
    plain = sliding.attribute(x)
    assert capsys.readouterr().err == ""
    assert torch.equal(sliding.attribute(x, progress=True), plain)
    assert "explaining: 100%" in (shown := capsys.readouterr().err)
    assert "22/22" in shown


# ----------------------------------------------------------------------------------- Captum


def test_noise_tunnel_and_metrics_take_it():
    """NoiseTunnel without noise is the map itself; both pass inputs in tuples of one."""
    sliding = SlidingWindowCAM(LayerwiseGradCAM(conv_net(1), "0"), 4)
    x = random_input(2, (11,))
    tunnel = NoiseTunnel(sliding)
    smoothed = tunnel.attribute(x, nt_samples=2, stdevs=0.0, target=1)
    torch.testing.assert_close(smoothed, sliding.attribute(x, 1))
    assert sliding.attribute((x,), 1)[0].equal(sliding.attribute(x, 1))
    assert sensitivity_max(sliding.attribute, x, perturb_radius=0.01, target=1).shape == (2,)
    assert isinstance(sliding, LayerAttribution)
    assert not sliding.has_convergence_delta()


def test_repr_names_the_parts():
    sliding = SlidingWindowCAM(LayerwiseGradCAM(conv_net(1), "0"), 8)
    assert repr(sliding) == (
        "SlidingWindowCAM(LayerwiseGradCAM(Sequential, layers=['0'], fusion='sum'), window=(8,), "
        "stride=(4,))"
    )


# ------------------------------------------------------------------------------------- errors


def make(window=4, stride=None, **options):
    return SlidingWindowCAM(LayerwiseGradCAM(conv_net(1), "0"), window, stride, **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"window": 0}, "window=0: expected an integer, 1 or more."),
        ({"window": (4, 2.5)}, "window=2.5: expected an integer, 1 or more."),
        ({"window": (None, None)}, "window=(None, None) cuts no axis. Use the attribution"),
        ({"window": ()}, "window=() cuts no axis."),
        ({"stride": 5}, "stride=5 is longer than window=(4,): it would leave gaps."),
        ({"stride": -1}, "stride=-1: expected an integer, 1 or more."),
        ({"stride": (2, 2)}, "stride=(2, 2) must be one number, or one for each of the 1 axes"),
        ({"batch_size": 0}, "batch_size=0: expected an integer, 1 or more."),
        ({"scale": "loud"}, "scale='loud' is not known. Choose one of 'probability', 'score'"),
    ],
)
def test_settings_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError) as raised:
        make(**arguments)
    assert message in str(raised.value)


def test_only_attributions_of_this_package():
    with pytest.raises(TypeError, match="wraps an attribution of this package.*ived Sequential"):
        SlidingWindowCAM(conv_net(1), 4)


X = random_input(2, (12,))


@pytest.mark.parametrize(
    "call, kind, message",
    [
        (lambda s: s.attribute(X[0]), ValueError, r"received shape \(2, 12\)"),
        (lambda s: s.attribute([X]), ValueError, "non-empty tensor .*; received list"),
        (lambda s: s.attribute(X[:0]), ValueError, r"received shape \(0, 2, 12\)"),
        (lambda s: s.attribute(X, "all"), ValueError, "target='all' is not known.*'whole'"),
        (lambda s: s.attribute(X, [1]), ValueError, "target has 1 entries for a batch of 2"),
        (lambda s: s.attribute(X, 9), IndexError, "target 9 is out of range"),
        (lambda s: s.attribute(X, boundaries=[3, 3]), ValueError, r"boundaries=\[3, 3\] must rise"),
        (lambda s: s.attribute(X, boundaries=[0]), ValueError, "must rise, from 1 on"),
        (lambda s: s.attribute(X, boundaries=[12]), ValueError, "within the input's 12 frames"),
        (lambda s: s.attribute(X, boundaries=[1.5]), TypeError, "float"),
        (lambda s: s.stream(X[:1], "whole"), ValueError, "runs once.*sliding.whole_target"),
        (lambda s: list(s.stream(X[0])), TypeError, r"received one tensor. Pass a list"),
        (lambda s: list(s.stream([])), ValueError, "The stream gave no frames"),
        (lambda s: list(s.stream([X[0], X[0, 0]])), ValueError, r"received shape \(12,\)"),
        (lambda s: list(s.stream([X[0], None])), ValueError, "received NoneType"),
        (lambda s: list(s.stream([X[0], X[0, :, :0]])), ValueError, r"received shape \(2, 0\)"),
        (lambda s: list(s.stream([X[0], X[0, :1]])), ValueError, r"\(1, 12\) after .*\(2, 't'\)"),
        (lambda s: s.stream([X[0]], boundaries=[2, 1]), ValueError, "must rise"),
        (lambda s: s.whole_target([]), ValueError, "The stream gave no frames"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(call, kind, message):
    with pytest.raises(kind, match=message):
        call(make())


def test_windows_that_do_not_fit_the_input():
    with pytest.raises(ValueError, match=r"window=\(4, 4\) is for 2 or more .* has 1: \(12,\)"):
        make((4, 4)).attribute(X)
    with pytest.raises(ValueError, match=r"window=\(None, 4\) does not cut the first axis"):
        make((None, 4)).stream([X[0]])


def test_models_that_do_not_give_a_score_for_each_window():
    net = conv_net(1)
    summed = SlidingWindowCAM(LayerwiseGradCAM(lambda x: net(x).sum().reshape(1), net[0]), 4)
    with pytest.raises(ValueError, match=r"output of shape \(1,\) for 5 windows; each needs a sc"):
        summed.attribute(X)
    with pytest.raises(ValueError, match=r"needs scores of shape \(N, classes\).*\(1,\) for 5 w"):
        summed.attribute(X, "whole")
    named = SlidingWindowCAM(LayerwiseGradCAM(lambda x: {"a": net(x), "b": net(x)}, net[0]), 4)
    for target in (None, "whole"):
        with pytest.raises(TypeError, match="must return a tensor of scores; it returned dict"):
            named.attribute(X, target)


def test_scale_functions_return_a_factor_for_each_window():
    with pytest.raises(ValueError, match=r"batch of windows, \(5,\).*returned shape \(\)"):
        make(scale=lambda scores: scores.mean()).attribute(X)
    with pytest.raises(ValueError, match="this one returned float"):
        make(scale=lambda scores: 1.0).attribute(X)


def test_the_map_is_bounded_by_that_of_the_attribution():
    net, x = conv_net(3), random_input(1, (9, 6, 6))
    found = SlidingWindowCAM(LayerwiseGlobalLocalCAM(net, ["0", "1"]), (4, 4)).attribute(x)
    assert found.min() >= 0
    assert 0 < found.max() <= 2
    assert functional.temporal_profile(found).shape == (1, 9)


def test_layers_chosen_by_the_first_window():
    features = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 4, 3, 2), nn.ReLU()
    )
    model = nn.Sequential(features, nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(8, 3)).eval()
    x = torch.rand(1, 2, 40)
    cam = LayerwiseGlobalLocalCAM(model, "auto")
    automatic = SlidingWindowCAM(cam, 16, 8).attribute(x, target=1)
    assert [layer.name for layer in cam.layers] == ["0.1", "0", "1"]
    named = SlidingWindowCAM(LayerwiseGlobalLocalCAM(model, ["0.1", "0", "1"]), 16, 8)
    assert torch.equal(automatic, named.attribute(x, target=1))
