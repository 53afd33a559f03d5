"""Tubes and linking against loops and worked numbers."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from localization_reference import (
    CLIP_SIZES,
    clip_of_rectangles,
    frame_of,
    naive_box,
    naive_components,
    random_maps,
)

from captum_3dcam import FrameTimes
from captum_3dcam import localization as loc


def tube_facts(tube):
    return tube.start, tube.boxes.tolist(), pytest.approx(tube.score)


@settings(max_examples=60)
@given(random_maps(CLIP_SIZES), st.data())
def test_tubes_equal_loops(maps, data):
    rank = maps.ndim - 2
    connectivity = data.draw(st.integers(1, rank))
    mask = loc.binarize(maps, "relative", 0.3)
    result = loc.tubes(maps, mask, connectivity)
    for sample, values, tubes in zip(mask[:, 0].numpy(), maps[:, 0].numpy(), result, strict=True):
        expected = []
        for component in naive_components(sample, connectivity):
            frames = sorted({position[0] for position in component})
            inside = [[p for p in component if p[0] == t] for t in frames]
            boxes = [naive_box([p[1:] for p in positions]) for positions in inside]
            score = np.mean([max(values[p] for p in positions) for positions in inside])
            expected.append((frames[0], boxes, score))
            assert frames == list(range(frames[0], frames[-1] + 1))
        expected = sorted(expected, key=lambda e: (-round(float(e[2]), 5), e[0], e[1]))
        ordered = sorted(tubes, key=lambda t: (-round(t.score, 5), t.start, t.boxes.tolist()))
        assert [tube_facts(tube) for tube in ordered] == expected
        scores = [tube.score for tube in tubes]
        assert scores == sorted(scores, reverse=True)


@settings(max_examples=30)
@given(random_maps(CLIP_SIZES))
def test_bounds_of_tubes_equal_boxes_in_space_time(maps):
    for tubes, cuboids in zip(loc.tubes(maps), loc.boxes(maps, select="all"), strict=True):
        bounds = [tube.bounds.tolist() for tube in tubes]
        assert sorted(bounds) == sorted(cuboids.boxes.tolist())


def test_a_tube_ignores_other_components():
    # The long component's cuboid contains the short one, which must not change its box or score.
    frames = [[(0, 0, 8, 1, 0.6), (5, 3, 7, 5, 1.0)], [(0, 0, 1, 8, 0.8)]]
    high, low = loc.tubes(clip_of_rectangles(frames))[0]
    assert (high.start, high.boxes.tolist(), high.score) == (0, [[5, 3, 7, 5]], 1)
    assert low.boxes.tolist() == [[0, 0, 8, 1], [0, 0, 1, 8]]
    assert low.score == pytest.approx(0.7)


def test_bounds_and_seconds_of_a_tube_in_any_rank():
    boxes = torch.tensor([[1.0, 4.0], [0.0, 3.0], [2.0, 3.5]])
    tube = loc.Tube(2, boxes, 1.0, fps=4)
    assert (tube.end, tube.bounds.tolist(), tube.seconds) == (5, [0, 2, 4, 5], (0.5, 1.25))
    boxes = torch.tensor([[3, 2, 1, 6, 5, 4]])
    assert loc.Tube(7, boxes, 1.0).bounds.tolist() == [3, 2, 1, 7, 6, 5, 4, 8]


# --------------------------------------------------------------------------------------- link


def test_components_and_links_give_one_tube_for_one_moving_object():
    frames = [[], *[[(t, t, t + 5, t + 4, 0.6 + t / 10)] for t in range(4)], []]
    maps = clip_of_rectangles(frames)
    (linked,), (component,) = loc.link(loc.frame_boxes(maps), fps=5)[0], loc.tubes(maps, fps=5)[0]
    assert (linked.start, linked.end, linked.seconds) == (1, 5, (0.2, 1.0))
    assert linked.boxes.tolist() == [[t, t, t + 5, t + 4] for t in range(4)]
    assert linked.score == pytest.approx((0.6 + 0.7 + 0.8 + 0.9) / 4)
    assert tube_facts(linked) == tube_facts(component)
    assert linked.seconds == component.seconds


def test_gaps_up_to_max_gap_are_interpolated():
    frames = [frame_of((0, 0, 4, 4, 1.0)), frame_of(), frame_of(), frame_of((1.5, 0, 5.5, 7, 0.5))]
    apart = loc.link([frames], min_iou=0.2, max_gap=1)[0]
    assert [(t.start, t.end) for t in apart] == [(0, 1), (3, 4)]
    (tube,) = loc.link([frames], min_iou=0.2, max_gap=2)[0]
    assert tube.boxes.tolist() == [[0, 0, 4, 4], [0.5, 0, 4.5, 5], [1, 0, 5, 6], [1.5, 0, 5.5, 7]]
    assert tube.score == 0.75  # of the detections, not of interpolated boxes


def test_matching_is_one_to_one_and_takes_the_highest_iou_first():
    first = frame_of((0, 0, 10, 10, 0.9), (4, 0, 14, 10, 0.8))
    # Both overlap the second box most; the better one gets it, the other the remaining box.
    second = frame_of((3, 0, 13, 10, 1.0), (4, 0, 14, 10, 0.6))
    high, low = loc.link([[first, second]], min_iou=0.5)[0]
    assert high.boxes[:, 0].tolist() == [0, 3]
    assert low.boxes[:, 0].tolist() == [4, 4]
    assert (high.score, low.score) == (pytest.approx(0.95), pytest.approx(0.7))


def test_ties_of_iou_go_to_the_higher_score():
    first, second = frame_of((2, 0, 4, 2, 0.5)), frame_of((3, 0, 5, 2, 0.9), (1, 0, 3, 2, 0.8))
    tubes = loc.link([[first, second]])[0]
    assert sorted(tube.boxes[:, 0].tolist() for tube in tubes) == [[1], [2, 3]]


def test_min_iou_is_inclusive():
    frames = [frame_of((0, 0, 3, 1, 1.0)), frame_of((1, 0, 4, 1, 1.0))]  # IoU 2 / 4
    assert len(loc.link([frames], min_iou=0.5)[0]) == 1
    assert len(loc.link([frames], min_iou=0.51)[0]) == 2
    apart = [frame_of((0, 0, 1, 1, 1.0)), frame_of((5, 5, 6, 6, 1.0))]
    assert len(loc.link([apart], min_iou=0)[0]) == 1


def test_short_tubes_are_dropped():
    frames = [frame_of((0, 0, 2, 2, 1.0), (9, 9, 11, 11, 0.5)), frame_of((9, 9, 11, 11, 0.7))]
    assert [t.start for t in loc.link([frames])[0]] == [0, 0]
    (tube,) = loc.link([frames], min_length=2)[0]
    assert (tube.start, tube.end, tube.score) == (0, 2, pytest.approx(0.6))
    assert loc.link([frames], min_length=3) == [[]]


def test_an_ended_tube_is_not_continued():
    box = (0, 0, 2, 2, 1.0)
    tubes = loc.link([[frame_of(box), frame_of(), frame_of(box), frame_of(box), frame_of()]])[0]
    assert [(t.start, t.end) for t in tubes] == [(0, 1), (2, 4)]


def test_frames_without_boxes_give_no_tubes():
    assert loc.link(loc.frame_boxes(torch.zeros(2, 1, 3, 4, 4))) == [[], []]
    assert loc.link([[]]) == [[]]


def naive_iou(a, b):
    """By counting the pixels of the integer grid."""
    half = len(a) // 2
    inside = [
        set(product(*(range(int(lo), int(hi)) for lo, hi in zip(x[:half], x[half:], strict=True))))
        for x in (a, b)
    ]
    return len(inside[0] & inside[1]) / max(len(inside[0] | inside[1]), 1)


boxes_of_rank = {
    rank: st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=rank, max_size=rank),
        max_size=3,
    )
    for rank in (1, 2, 3)
}


@st.composite
def some_frames(draw):
    rank = draw(st.integers(1, 3))
    frames = []
    for drawn in draw(st.lists(boxes_of_rank[rank], max_size=6)):
        boxes = [[x for x, _ in box] + [x + w for x, w in box] for box in drawn]
        scores = draw(st.lists(st.integers(0, 8), min_size=len(boxes), max_size=len(boxes)))
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 2 * rank)
        frames.append(loc.Boxes(boxes, torch.tensor(scores, dtype=torch.float32) / 8))
    return frames


@settings(max_examples=60)
@given(some_frames(), some_frames())
def test_iou_counts_pixels(first, second):
    for a, b in product([f.boxes for f in first], [f.boxes for f in second]):
        if a.shape[1] == b.shape[1]:
            expected = [[naive_iou(x, y) for y in b.tolist()] for x in a.tolist()]
            result = loc.iou(a[:, None], b).numpy()
            assert result.shape == (len(a), len(b))
            np.testing.assert_allclose(result.ravel(), np.ravel(expected), rtol=1e-6)


def naive_link(frames, min_iou, max_gap, min_length):
    """Sets of (frame, box) by picking, frame by frame, the best pair that is left."""
    tracks = []
    for t, (boxes, scores) in enumerate(frames):
        free = list(range(len(boxes)))
        open_tracks = [track for track in tracks if t - track[-1][0] - 1 <= max_gap]
        while free and open_tracks:
            pairs = [
                (naive_iou(track[-1][1], boxes[j].tolist()), -i, -j)
                for i, track in enumerate(open_tracks)
                for j in free
            ]
            iou, i, j = max(pairs)
            if iou < min_iou:
                break
            open_tracks.pop(-i).append((t, boxes[-j].tolist(), scores[-j].item()))
            free.remove(-j)
        tracks += [[(t, boxes[j].tolist(), scores[j].item())] for j in free]
    return [track for track in tracks if track[-1][0] - track[0][0] + 1 >= min_length]


@settings(max_examples=100)
@given(some_frames(), st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 2), st.integers(1, 3))
def test_linking_equals_loops(frames, min_iou, max_gap, min_length):
    (result,) = loc.link([frames], min_iou, max_gap, min_length)
    expected = naive_link(frames, min_iou, max_gap, min_length)
    expected.sort(key=lambda track: -np.mean([score for _, _, score in track]))
    assert len(result) == len(expected)
    for tube, track in zip(result, expected, strict=True):
        assert (tube.start, tube.end) == (track[0][0], track[-1][0] + 1)
        assert tube.score == pytest.approx(np.mean([score for _, _, score in track]))
        times = [t for t, _, _ in track]
        for column in range(tube.boxes.shape[1]):
            known = [box[column] for _, box, _ in track]
            between = np.interp(range(tube.start, tube.end), times, known)
            np.testing.assert_allclose(tube.boxes[:, column].numpy(), between, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 3), (1, 2, 4), (1, 0)])
def test_tube_boxes_are_validated(shape):
    with pytest.raises(ValueError, match=r"Expected tube boxes \(L, 2R\) .*; got shape"):
        loc.Tube(0, torch.zeros(shape), 1.0)


@pytest.mark.parametrize("min_iou", [-0.1, 1.1, float("nan")])
def test_min_iou_out_of_range_raises(min_iou):
    with pytest.raises(ValueError, match=f"min_iou={min_iou}: expected an IoU, from 0 to 1"):
        loc.link([], min_iou)


def test_link_validates_frames():
    frames = loc.frame_boxes(torch.ones(1, 1, 2, 4, 4))
    with pytest.raises(TypeError, match=r"got shape \(1, 4\) for a frame\. .* link\(\[frames"):
        loc.link(frames[0])
    bad = loc.Boxes(torch.ones(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match=r"boxes \(B, 2R\), .* scores \(B,\).*\(2, 4\) and \(3,\)"):
        loc.link([[bad]])
    bad = loc.Boxes(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"boxes \(B, 2R\), .* scores \(B,\).*\(2, 3\) and \(2,\)"):
        loc.link([[bad]])
    flat = loc.Boxes(torch.ones(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match=r"over the same R axes, .* got \(1, 2\) and \(1,\)"):
        loc.link([[*frames[0], flat]])


def test_seconds_are_those_of_the_frames():
    times = FrameTimes([0.5, 0.6, 1.0, 1.1, 3.0])
    maps = torch.zeros(1, 1, 4, 3, 3)
    maps[0, 0, 1:3, 0, 0] = 1.0
    (component,), (linked,) = (
        loc.tubes(maps, fps=times)[0],
        loc.link(loc.frame_boxes(maps), fps=times)[0],
    )
    assert component.seconds == linked.seconds == (0.6, 1.1)
    for call in (
        lambda: loc.tubes(maps[:, :, :3], fps=times),
        lambda: loc.link(loc.frame_boxes(maps[:, :, :3]), fps=times),
    ):
        with pytest.raises(ValueError, match="fps holds the times of 4 frames, and there are 3"):
            call()
