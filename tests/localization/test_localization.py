"""Masks, boxes, tubes and segments against loops, scikit-image and worked numbers."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import filters, measure

from captum_3dcam import localization as loc
from captum_3dcam.functional import temporal_profile

sizes = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 6), min_size=r, max_size=r))
clip_sizes = st.lists(st.integers(1, 5), min_size=2, max_size=3)
METHODS = ["relative", "quantile", "mean", "otsu"]


@st.composite
def some_maps(draw, sizes=sizes, batch=None, levels=5):
    """Maps of few levels, so that there are ties, plateaus and empty samples, or of many."""
    size = draw(sizes)
    batch = draw(st.integers(1, 3)) if batch is None else batch
    levels = draw(st.sampled_from([1, 2, levels, 10**6]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (batch, 1, *size)
    maps = torch.randint(0, levels, shape, generator=generator) / levels
    sparse = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.2, 0.5, 1.0]))
    return maps * sparse


def places(shape):
    return product(*(range(s) for s in shape))


def naive_components(mask, connectivity):
    """Flood fill from each place that has no label yet, in raster order: lists of places."""
    steps = [
        step
        for step in product((-1, 0, 1), repeat=mask.ndim)
        if 0 < sum(map(abs, step)) <= connectivity
    ]
    found, seen = [], set()
    for seed in places(mask.shape):
        if not mask[seed] or seed in seen:
            continue
        component, queue = [], [seed]
        seen.add(seed)
        while queue:
            place = queue.pop()
            component.append(place)
            for step in steps:
                near = tuple(p + d for p, d in zip(place, step, strict=True))
                inside = all(0 <= p < s for p, s in zip(near, mask.shape, strict=True))
                if inside and mask[near] and near not in seen:
                    seen.add(near)
                    queue.append(near)
        found.append(component)
    return found


def naive_box(component):
    axes = list(zip(*component, strict=True))[::-1]
    return [min(axis) for axis in axes] + [max(axis) + 1 for axis in axes]


def by_score(found):
    return sorted(found, key=lambda pair: -pair[1])


def listed(boxes):
    return list(zip(boxes.boxes.tolist(), boxes.scores.tolist(), strict=True))


def clip_of_rectangles(frames, size=(8, 16)):
    """One clip (1, 1, T, H, W) with rectangles (x0, y0, x1, y1, value) in each frame."""
    maps = torch.zeros(1, 1, len(frames), *size)
    for t, rectangles in enumerate(frames):
        for x0, y0, x1, y1, value in rectangles:
            maps[0, 0, t, y0:y1, x0:x1] = value
    return maps


# -------------------------------------------------------------------------------------- masks

MAP = torch.tensor([[[[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]]]])  # mean 3


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        ("relative", None, [0, 0, 0, 0, 0, 1]),  # strictly above 4
        ("relative", 0.49, [0, 0, 0, 0, 1, 1]),
        ("relative", 0, [0, 1, 1, 1, 1, 1]),
        ("quantile", None, [0, 0, 0, 0, 0, 1]),  # above 4 + (8 - 4) / 2
        ("quantile", 0.6, [0, 0, 0, 0, 1, 1]),  # above 3 itself
        ("quantile", 0, [0, 1, 1, 1, 1, 1]),
        ("mean", None, [0, 0, 0, 0, 1, 1]),
        ("mean", 0.5, [0, 0, 1, 1, 1, 1]),
        ("mean", 2, [0, 0, 0, 0, 0, 1]),
        ("otsu", None, [0, 0, 0, 0, 0, 1]),
    ],
)
def test_thresholds_by_hand(method, value, expected):
    found = loc.binarize(MAP, method, value)
    assert found.dtype == torch.bool
    assert found.shape == MAP.shape
    assert found.flatten().int().tolist() == expected


@settings(max_examples=60)
@given(some_maps(), st.floats(0, 1, exclude_max=True))
def test_thresholds_equal_their_formulas(maps, value):
    maps = maps.double()
    formulas = {
        "relative": lambda x: value * max(x),
        "quantile": lambda x: np.quantile(x, value),
        "mean": lambda x: value * sum(x) / len(x),
    }
    for method, formula in formulas.items():
        found = loc.binarize(maps, method, value)
        for sample, mask in zip(maps.flatten(1).numpy(), found.flatten(1).tolist(), strict=True):
            threshold = formula(sample.tolist())
            for place, inside in zip(sample, mask, strict=True):
                assert inside == (place > threshold) or place == pytest.approx(threshold, 1e-12)


def between_class_variance(x, threshold, bins=256):
    """Otsu's criterion, by its definition, over bin centres."""
    width = (x.max() - x.min()) / bins
    centers = x.min() + (np.minimum((x - x.min()) // width, bins - 1) + 0.5) * width
    low, high = centers[centers <= threshold + width / 4], centers[centers > threshold + width / 4]
    return len(low) * len(high) * (low.mean() - high.mean()) ** 2 / len(x) ** 2


@settings(max_examples=60)
@given(st.integers(2, 3000), st.integers(0, 10**6), st.floats(-3, 3), st.sampled_from([0, 3, 9]))
def test_otsu_is_that_of_scikit_image(count, seed, log_scale, distance):
    rng = np.random.default_rng(seed)
    x = rng.random(count) + distance * (rng.random(count) < 0.3) * rng.random(count)
    x *= 10**log_scale
    threshold, expected = loc._otsu(x), filters.threshold_otsu(x)
    if threshold != pytest.approx(expected, 1e-9):
        # Empty bins between the classes: each of them is a best threshold.
        variances = [between_class_variance(x, t) for t in (threshold, expected)]
        assert variances[0] == pytest.approx(variances[1], 1e-9)
    mask = loc.binarize(torch.from_numpy(x)[None, None], "otsu")
    assert mask.flatten().tolist() == (x > threshold).tolist()


def test_otsu_of_a_dense_map_is_exactly_that_of_scikit_image():
    x = np.random.default_rng(0).random((40, 50)) ** 3
    mask = loc.binarize(torch.from_numpy(x)[None, None], "otsu")
    assert loc._otsu(x) == pytest.approx(filters.threshold_otsu(x), 1e-12)
    np.testing.assert_array_equal(mask[0, 0].numpy(), x > filters.threshold_otsu(x))


def test_otsu_takes_the_first_of_equal_thresholds():
    x = np.array([0.0, 0.0, 10 / 256, 1.0, 1.0, 1.0])  # no value in the bins from 11 to 254
    assert loc._otsu(x) == pytest.approx(10.5 / 256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, 0.3, 0.6, 0.7, 1 / 3])
def test_a_value_at_the_threshold_is_not_above_it(dtype, value):
    maps = torch.tensor([[[value, 1.0, 0.0]]], dtype=dtype)
    assert loc.binarize(maps, "relative", value).flatten().tolist() == [False, True, False]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0.0, -1.0, -1e-30])
def test_a_map_without_positive_values_gives_an_empty_mask(method, value):
    maps = torch.tensor([[[value, value - 1, value - 5]], [[0.0, 0.0, 1.0]]])
    assert loc.binarize(maps, method).tolist() == [[[False] * 3], [[False, False, True]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.1, 0.7, 1e-30, 3e7])
def test_a_constant_map_is_above_half_its_maximum_and_not_above_its_mean(dtype, constant):
    for size in ((7, 11, 3), (3,), (7,)):  # 7 times 0.1 and 3 times 0.7 sum to too little
        maps = torch.full((1, 1, *size), constant, dtype=dtype)
        assert loc.binarize(maps, "relative").all()
        for method in ("quantile", "mean", "otsu"):
            assert not loc.binarize(maps, method).any()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=20)
@given(maps=some_maps())
def test_each_sample_is_binarized_by_itself_and_positive_factors_change_nothing(method, maps):
    together = loc.binarize(maps, method)
    alone = torch.cat([loc.binarize(sample[None], method) for sample in maps])
    assert torch.equal(together, alone)
    assert torch.equal(together, loc.binarize(4 * maps, method))
    assert not (together & (maps <= 0)).any()


@pytest.mark.parametrize("method", METHODS)
def test_other_dtypes(method):
    maps = torch.randint(0, 9, (2, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    expected = loc.binarize(maps.double(), method)
    assert expected.any()
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32):
        assert torch.equal(loc.binarize(maps.to(dtype), method), expected)
    assert torch.equal(loc.binarize(maps.float().requires_grad_(), method), expected)
    assert torch.equal(loc.binarize(maps > 4), maps > 4)


def test_a_threshold_of_the_clip_leaves_weak_frames_empty():
    maps = clip_of_rectangles([[(0, 0, 2, 2, 0.4)], [(0, 0, 2, 2, 1.0)]])
    assert loc.binarize(maps).flatten(2).sum(2).tolist() == [[4]]
    assert not loc.binarize(maps)[0, 0, 0].any()


# --------------------------------------------------------------------------------- components


@settings(max_examples=80)
@given(some_maps(), st.data())
def test_components_equal_flood_fill_and_scikit_image(maps, data):
    mask = maps > 0.3
    rank = mask.ndim - 2
    connectivity = data.draw(st.sampled_from([None, *range(1, rank + 1)]))
    labels, counts = loc.components(mask, connectivity)
    assert labels.shape == mask.shape
    assert (labels.dtype, counts.dtype) == (torch.int64, torch.int64)
    for n, sample in enumerate(mask[:, 0].numpy()):
        expected = np.zeros(sample.shape, dtype=int)
        naive = naive_components(sample, connectivity or rank)
        for label, component in enumerate(naive, start=1):
            for place in component:
                expected[place] = label
        assert counts[n] == len(naive)
        np.testing.assert_array_equal(labels[n, 0].numpy(), expected)
        oracle, count = measure.label(sample, connectivity=connectivity, return_num=True)
        assert count == len(naive)
        np.testing.assert_array_equal(expected, oracle)


def test_components_touch_at_corners_by_default():
    diagonal = torch.eye(3, dtype=torch.bool)[None, None]
    assert loc.components(diagonal)[1].tolist() == [1]
    assert loc.components(diagonal, connectivity=1)[1].tolist() == [3]
    cube = torch.zeros(1, 1, 2, 2, 2, dtype=torch.bool)
    cube[0, 0, 0, 0, 0] = cube[0, 0, 1, 1, 1] = True
    assert [loc.components(cube, c)[1].item() for c in (1, 2, 3)] == [2, 2, 1]


# -------------------------------------------------------------------------------------- boxes


@settings(max_examples=80)
@given(some_maps(), st.data())
def test_boxes_equal_loops(maps, data):
    rank = maps.ndim - 2
    connectivity = data.draw(st.integers(1, rank))
    mask = loc.binarize(maps, "relative", 0.3)
    found = {s: loc.boxes(maps, mask, s, connectivity) for s in ("all", "union", "largest")}
    for n, (sample, values) in enumerate(zip(mask[:, 0].numpy(), maps[:, 0].numpy(), strict=True)):
        components = naive_components(sample, connectivity)
        described = [(naive_box(c), max(values[p] for p in c), len(c)) for c in components]
        described.sort(key=lambda d: -d[1])
        assert listed(found["all"][n]) == [d[:2] for d in described]
        inside = [p for p in places(sample.shape) if sample[p]]
        union = [(naive_box(inside), max(values[p] for p in inside))] if inside else []
        assert listed(found["union"][n]) == union
        largest = [max(described, key=lambda d: d[2])[:2]] if described else []
        assert listed(found["largest"][n]) == largest
        for boxes in (chosen[n] for chosen in found.values()):
            assert boxes.boxes.shape == (len(boxes.scores), 2 * rank)
            assert boxes.boxes.dtype == boxes.scores.dtype == torch.float32


@settings(max_examples=40)
@given(some_maps(st.lists(st.integers(1, 9), min_size=2, max_size=2), batch=1))
def test_boxes_of_images_are_those_of_regionprops(maps):
    mask = loc.binarize(maps)
    labelled = measure.label(mask[0, 0].numpy())
    expected = [
        ([x0, y0, x1, y1], region.intensity_max)
        for region in measure.regionprops(labelled, maps[0, 0].numpy())
        for y0, x0, y1, x1 in [region.bbox]
    ]
    assert listed(loc.boxes(maps, select="all")[0]) == by_score(expected)


def test_a_box_is_x_first_and_exclusive_at_its_end():
    maps = torch.zeros(1, 1, 6, 10)
    maps[0, 0, 2:5, 3:8] = 0.5
    (found,) = loc.boxes(maps)
    assert found.boxes.tolist() == [[3, 2, 8, 5]]
    assert found.scores.tolist() == [0.5]
    (cuboid,) = loc.boxes(maps[:, :, None].expand(1, 1, 4, 6, 10))
    assert cuboid.boxes.tolist() == [[3, 2, 0, 8, 5, 4]]
    (interval,) = loc.boxes(maps[:, :, 3])
    assert interval.boxes.tolist() == [[3, 8]]


def test_the_largest_has_most_pixels_not_the_largest_box_or_score():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0].fill_diagonal_(1.0)  # 8 pixels in a box of 64
    maps[0, 0, 0:3, 5:8] = 0.6  # 9 pixels
    assert loc.boxes(maps)[0].boxes.tolist() == [[5, 0, 8, 3]]


def test_of_equally_large_components_the_highest_then_the_first_is_taken():
    maps = torch.zeros(2, 1, 1, 5)
    maps[0, 0, 0, [0, 2, 4]] = torch.tensor([0.6, 1.0, 0.7])
    maps[1, 0, 0, [1, 3]] = 1.0
    assert [b.boxes.tolist() for b in loc.boxes(maps)] == [[[2, 0, 3, 1]], [[1, 0, 2, 1]]]


@pytest.mark.parametrize("select", loc.SELECTIONS)
@pytest.mark.parametrize("size", [(1,), (4, 5), (3, 1, 2)])
def test_an_empty_map_has_no_box(select, size):
    (found,) = loc.boxes(torch.zeros(1, 1, *size), select=select)
    assert found.boxes.shape == (0, 2 * len(size))
    assert found.scores.shape == (0,)


def test_scores_are_the_maps_also_under_another_mask():
    maps = torch.tensor([[[0.0, -2.0, -1.0, 0.0, 5.0]]])
    mask = torch.tensor([[[False, True, True, False, False]]])
    assert listed(loc.boxes(maps, mask)[0]) == [([1, 3], -1)]


def test_an_empty_batch_gives_empty_results():
    maps, profile = torch.zeros(0, 1, 2, 3, 3), torch.zeros(0, 4)
    assert loc.binarize(maps).shape == maps.shape
    labels, counts = loc.components(loc.binarize(maps))
    assert (labels.shape, counts.shape) == (maps.shape, (0,))
    results = [loc.boxes(maps), loc.frame_boxes(maps), loc.tubes(maps), loc.segments(profile)]
    assert [*results, loc.link([])] == [[]] * 5


@settings(max_examples=40)
@given(some_maps(clip_sizes), st.sampled_from(loc.SELECTIONS))
def test_frame_boxes_are_the_boxes_of_each_frame_under_the_clips_threshold(maps, select):
    mask = loc.binarize(maps, "mean")
    for given_mask, used in ((mask, mask), (None, loc.binarize(maps))):
        found = loc.frame_boxes(maps, given_mask, select, connectivity=1)
        assert [len(frames) for frames in found] == [maps.shape[2]] * len(maps)
        for n, t in product(range(len(maps)), range(maps.shape[2])):
            frame, inside = maps[n, :, t][None], used[n, :, t][None]
            (expected,) = loc.boxes(frame, inside, select, connectivity=1)
            assert listed(found[n][t]) == listed(expected)
            assert found[n][t].boxes.shape == (len(found[n][t].scores), 2 * (maps.ndim - 3))


# -------------------------------------------------------------------------------------- tubes


def tube_facts(tube):
    return tube.start, tube.boxes.tolist(), pytest.approx(tube.score)


@settings(max_examples=60)
@given(some_maps(clip_sizes), st.data())
def test_tubes_equal_loops(maps, data):
    rank = maps.ndim - 2
    connectivity = data.draw(st.integers(1, rank))
    mask = loc.binarize(maps, "relative", 0.3)
    found = loc.tubes(maps, mask, connectivity)
    for sample, values, tubes in zip(mask[:, 0].numpy(), maps[:, 0].numpy(), found, strict=True):
        expected = []
        for component in naive_components(sample, connectivity):
            frames = sorted({place[0] for place in component})
            inside = [[p for p in component if p[0] == t] for t in frames]
            boxes = [naive_box([p[1:] for p in places]) for places in inside]
            score = np.mean([max(values[p] for p in places) for places in inside])
            expected.append((frames[0], boxes, score))
            assert frames == list(range(frames[0], frames[-1] + 1))
        expected = sorted(expected, key=lambda e: (-round(float(e[2]), 5), e[0], e[1]))
        ordered = sorted(tubes, key=lambda t: (-round(t.score, 5), t.start, t.boxes.tolist()))
        assert [tube_facts(tube) for tube in ordered] == expected
        scores = [tube.score for tube in tubes]
        assert scores == sorted(scores, reverse=True)


@settings(max_examples=30)
@given(some_maps(clip_sizes))
def test_the_bounds_of_tubes_are_the_boxes_in_space_time(maps):
    for tubes, cuboids in zip(loc.tubes(maps), loc.boxes(maps, select="all"), strict=True):
        bounds = [tube.bounds.tolist() for tube in tubes]
        assert sorted(bounds) == sorted(cuboids.boxes.tolist())


def test_a_tube_keeps_to_its_own_component():
    # The long one's cuboid holds the short one, which must widen neither its box nor its score.
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


def test_one_moving_object_is_one_tube_by_either_way():
    frames = [[], *[[(t, t, t + 5, t + 4, 0.6 + t / 10)] for t in range(4)], []]
    maps = clip_of_rectangles(frames)
    (linked,), (component,) = loc.link(loc.frame_boxes(maps), fps=5)[0], loc.tubes(maps, fps=5)[0]
    assert (linked.start, linked.end, linked.seconds) == (1, 5, (0.2, 1.0))
    assert linked.boxes.tolist() == [[t, t, t + 5, t + 4] for t in range(4)]
    assert linked.score == pytest.approx((0.6 + 0.7 + 0.8 + 0.9) / 4)
    assert tube_facts(linked) == tube_facts(component)
    assert linked.seconds == component.seconds


def frame(*boxes):
    """A frame's Boxes of (x0, y0, x1, y1, score)."""
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 5)
    return loc.Boxes(table[:, :4], table[:, 4])


def test_a_gap_is_bridged_by_interpolation_if_it_is_short_enough():
    frames = [frame((0, 0, 4, 4, 1.0)), frame(), frame(), frame((1.5, 0, 5.5, 7, 0.5))]
    apart = loc.link([frames], min_iou=0.2, max_gap=1)[0]
    assert [(t.start, t.end) for t in apart] == [(0, 1), (3, 4)]
    (tube,) = loc.link([frames], min_iou=0.2, max_gap=2)[0]
    assert tube.boxes.tolist() == [[0, 0, 4, 4], [0.5, 0, 4.5, 5], [1, 0, 5, 6], [1.5, 0, 5.5, 7]]
    assert tube.score == 0.75  # of what was found, not of what was interpolated


def test_pairs_are_one_to_one_and_the_largest_iou_goes_first():
    first = frame((0, 0, 10, 10, 0.9), (4, 0, 14, 10, 0.8))
    # Both lie nearer to the second box; only the nearest gets it, the other takes what is left.
    second = frame((3, 0, 13, 10, 1.0), (4, 0, 14, 10, 0.6))
    high, low = loc.link([[first, second]], min_iou=0.5)[0]
    assert high.boxes[:, 0].tolist() == [0, 3]
    assert low.boxes[:, 0].tolist() == [4, 4]
    assert (high.score, low.score) == (pytest.approx(0.95), pytest.approx(0.7))


def test_of_equal_overlaps_the_higher_score_goes_first():
    first, second = frame((2, 0, 4, 2, 0.5)), frame((3, 0, 5, 2, 0.9), (1, 0, 3, 2, 0.8))
    tubes = loc.link([[first, second]])[0]
    assert sorted(tube.boxes[:, 0].tolist() for tube in tubes) == [[1], [2, 3]]


def test_the_least_iou_of_a_pair_is_enough():
    frames = [frame((0, 0, 3, 1, 1.0)), frame((1, 0, 4, 1, 1.0))]  # IoU 2 / 4
    assert len(loc.link([frames], min_iou=0.5)[0]) == 1
    assert len(loc.link([frames], min_iou=0.51)[0]) == 2
    apart = [frame((0, 0, 1, 1, 1.0)), frame((5, 5, 6, 6, 1.0))]
    assert len(loc.link([apart], min_iou=0)[0]) == 1


def test_short_tubes_are_dropped():
    frames = [frame((0, 0, 2, 2, 1.0), (9, 9, 11, 11, 0.5)), frame((9, 9, 11, 11, 0.7))]
    assert [t.start for t in loc.link([frames])[0]] == [0, 0]
    (tube,) = loc.link([frames], min_length=2)[0]
    assert (tube.start, tube.end, tube.score) == (0, 2, pytest.approx(0.6))
    assert loc.link([frames], min_length=3) == [[]]


def test_a_tube_that_ended_is_not_taken_up_again():
    box = (0, 0, 2, 2, 1.0)
    tubes = loc.link([[frame(box), frame(), frame(box), frame(box), frame()]])[0]
    assert [(t.start, t.end) for t in tubes] == [(0, 1), (2, 4)]


def test_frames_without_boxes_give_no_tube():
    assert loc.link(loc.frame_boxes(torch.zeros(2, 1, 3, 4, 4))) == [[], []]
    assert loc.link([[]]) == [[]]


def naive_iou(a, b):
    """By counting the places of the integer grid."""
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
def test_iou_counts_places(first, second):
    for a, b in product([f.boxes for f in first], [f.boxes for f in second]):
        if a.shape[1] == b.shape[1]:
            expected = [[naive_iou(x, y) for y in b.tolist()] for x in a.tolist()]
            found = loc._pairwise_iou(a.numpy(), b.numpy())
            assert found.shape == (len(a), len(b))
            np.testing.assert_allclose(found.ravel(), np.ravel(expected), rtol=1e-6)


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
    (found,) = loc.link([frames], min_iou, max_gap, min_length)
    expected = naive_link(frames, min_iou, max_gap, min_length)
    expected.sort(key=lambda track: -np.mean([score for _, _, score in track]))
    assert len(found) == len(expected)
    for tube, track in zip(found, expected, strict=True):
        assert (tube.start, tube.end) == (track[0][0], track[-1][0] + 1)
        assert tube.score == pytest.approx(np.mean([score for _, _, score in track]))
        times = [t for t, _, _ in track]
        for column in range(tube.boxes.shape[1]):
            known = [box[column] for _, box, _ in track]
            between = np.interp(range(tube.start, tube.end), times, known)
            np.testing.assert_allclose(tube.boxes[:, column].numpy(), between, atol=1e-5)


# ----------------------------------------------------------------------------------- segments


def naive_segments(profile, high, low, min_length, max_gap):
    """From the definition: every interval that is a longest run, then join, then drop."""
    peak, frames = max(profile), len(profile)
    above = [x > max(low * peak, 0) for x in profile]
    runs = [
        [start, end]
        for start in range(frames)
        for end in range(start + 1, frames + 1)
        if all(above[start:end])
        and (start == 0 or not above[start - 1])
        and (end == frames or not above[end])
        and any(x > max(high * peak, 0) for x in profile[start:end])
    ]
    position = 0
    while position + 1 < len(runs):
        if runs[position + 1][0] - runs[position][1] <= max_gap:
            runs[position : position + 2] = [[runs[position][0], runs[position + 1][1]]]
        else:
            position += 1
    return by_score(
        [((s, e), max(profile[s:e])) for s, e in runs if e - s >= min_length],
    )


@settings(max_examples=150)
@given(
    st.lists(st.integers(-2, 8), min_size=1, max_size=24),
    st.sampled_from([(0.5, 0.25), (0.75, 0.0), (0.0, 0.0), (0.625, 0.625), (0.9, 0.3)]),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_segments_equal_loops(profile, levels, min_length, max_gap):
    # Whole numbers and binary fractions, so that what is at a threshold is at it in both.
    high, low = levels
    profiles = torch.tensor([profile, profile[::-1]], dtype=torch.float64)
    found = loc.segments(profiles, high, low, min_length, max_gap)
    for values, segments in zip(profiles.tolist(), found, strict=True):
        expected = naive_segments(values, high, low, min_length, max_gap)
        assert [((s.start, s.end), s.score) for s in segments] == expected


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_hysteresis_is_that_of_scikit_image(profile):
    profile = torch.tensor([profile], dtype=torch.float64)
    covered = torch.zeros(profile.shape[1], dtype=torch.bool)
    for segment in loc.segments(profile, high=0.7, low=0.4)[0]:
        covered[segment.start : segment.end] = True
    peak = profile.max().item()
    expected = filters.apply_hysteresis_threshold(profile[0].numpy(), 0.4 * peak, 0.7 * peak)
    assert covered.tolist() == expected.tolist()


def spans(profile, **options):
    (found,) = loc.segments(torch.tensor([profile]), **options)
    return sorted((s.start, s.end) for s in found)


def test_segments_by_hand():
    profile = [0.0, 3.0, 8.0, 4.0, 0.0, 3.0, 0.0, 6.0]
    assert spans(profile) == [(1, 4), (7, 8)]  # 3 at frame 5 is above 2, but never above 4
    assert spans(profile, low=0.5) == [(2, 3), (7, 8)]  # 4 is not strictly above 4
    assert spans(profile, high=0.3, low=0.3) == [(1, 4), (5, 6), (7, 8)]
    assert spans(profile, min_length=2) == [(1, 4)]
    assert spans(profile, max_gap=2) == [(1, 4), (7, 8)]
    assert spans(profile, max_gap=3) == [(1, 8)]
    # Gaps are closed before what is short is dropped.
    assert spans([8.0, 0.0, 8.0, 0.0, 0.0, 8.0], max_gap=1, min_length=3) == [(0, 3)]


def test_segments_are_the_best_first_and_of_equals_the_earliest():
    (found,) = loc.segments(torch.tensor([[6.0, 0.0, 8.0, 0.0, 6.0]]), fps=2.0)
    assert found == [
        loc.Segment(2, 3, 8.0, 2.0),
        loc.Segment(0, 1, 6.0, 2.0),
        loc.Segment(4, 5, 6.0, 2.0),
    ]
    assert [s.seconds for s in found] == [(1.0, 1.5), (0.0, 0.5), (2.0, 2.5)]


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_profile_without_positive_values_has_no_segment(value):
    profile = torch.tensor([[value] * 4, [value, value, 1.0, value]])
    found = loc.segments(profile, high=0, low=0)
    assert found == [[], [loc.Segment(2, 3, 1.0)]]


def test_each_profile_has_its_own_maximum():
    profile = torch.tensor([[0.0, 1.0, 0.0], [100.0, 0.0, 60.0]])
    assert [[(s.start, s.end) for s in found] for found in loc.segments(profile)] == [
        [(1, 2)],
        [(0, 1), (2, 3)],
    ]


def test_a_map_has_segments_through_its_temporal_profile():
    maps = clip_of_rectangles([[], [(0, 0, 4, 4, 1.0)], [(2, 0, 6, 4, 1.0)], [], []])
    (segment,) = loc.segments(temporal_profile(maps), fps=10)[0]
    assert (segment.start, segment.end, segment.seconds) == (1, 3, (0.1, 0.3))


# ------------------------------------------------------------------------------------- errors

IMAGES, CLIPS = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 4, 4)
ON_MAPS = [loc.binarize, loc.boxes, loc.frame_boxes, loc.tubes]


@pytest.mark.parametrize("function", ON_MAPS)
@pytest.mark.parametrize(
    ("maps", "came"),
    [
        (torch.ones(4, 4), r"\(4, 4\)"),
        (torch.ones(1, 3, 2, 4, 4), r"\(1, 3, 2, 4, 4\)"),
        (torch.ones(1, 1, 2, 0, 4), r"\(1, 1, 2, 0, 4\)"),
        (np.ones((1, 1, 4, 4)), "ndarray"),
    ],
)
def test_maps_of_another_shape_are_refused(function, maps, came):
    with pytest.raises(ValueError, match=rf"Expected maps \(N, 1, \*S\) .*; got {came}\. Add axes"):
        function(maps)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_are_refused(bad):
    maps = CLIPS.clone()
    maps[0, 0, 0, 0, 0] = bad
    for function in ON_MAPS:
        with pytest.raises(ValueError, match="The maps must be finite; some values are NaN or Inf"):
            function(maps)
    with pytest.raises(ValueError, match="The profile must be finite"):
        loc.segments(torch.tensor([[1.0, bad]]))
    with pytest.raises(ValueError, match="The boxes must be finite"):
        loc.link([[frame((0, 0, 1, bad, 1.0))]])
    with pytest.raises(ValueError, match="The scores must be finite"):
        loc.link([[frame((0, 0, 1, 1, bad))]])


def test_complex_maps_are_refused():
    with pytest.raises(TypeError, match=r"Expected maps of real numbers; got torch\.complex64"):
        loc.binarize(torch.ones(1, 1, 4, dtype=torch.complex64))


@pytest.mark.parametrize("function", [loc.boxes, loc.tubes, loc.frame_boxes])
def test_masks_are_checked(function):
    with pytest.raises(TypeError, match=r"A mask is bool; got torch\.float32\. binarize\(maps\)"):
        function(CLIPS, CLIPS)
    with pytest.raises(ValueError, match=r"mask has shape \(1, 1, 1, 4, 4\), the maps have \(1, 1"):
        function(CLIPS, CLIPS[:, :, :1] > 0)
    with pytest.raises(ValueError, match=r"Expected mask \(N, 1, \*S\) .*; got \(2, 4, 4\)\. Add"):
        function(CLIPS, CLIPS[0, 0] > 0)


def test_components_of_what_is_no_mask_are_refused():
    with pytest.raises(TypeError, match=r"A mask is bool; got torch\.float32"):
        loc.components(CLIPS)
    with pytest.raises(ValueError, match=r"Expected mask \(N, 1, \*S\) .*; got \(4, 4\)"):
        loc.components(CLIPS[0, 0, 0] > 0)


@pytest.mark.parametrize("connectivity", [0, 8, -1])
def test_connectivity_counts_axes_not_neighbours(connectivity):
    expected = rf"connectivity={connectivity} is not from 1 to 2.*2 is 8-connected"
    for call in (
        lambda: loc.components(IMAGES > 0, connectivity),
        lambda: loc.boxes(IMAGES, connectivity=connectivity),
        lambda: loc.frame_boxes(CLIPS, connectivity=connectivity),
    ):
        with pytest.raises(ValueError, match=expected):
            call()
    with pytest.raises(ValueError, match="is not from 1 to 3"):
        loc.tubes(CLIPS, connectivity=connectivity)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="method='max' is not known. Choose one of 'relative', 'q"):
        loc.binarize(IMAGES, "max")
    with pytest.raises(ValueError, match="select='best' is not known. Choose one of 'largest', 'a"):
        loc.boxes(IMAGES, select="best")


@pytest.mark.parametrize(
    ("method", "value", "limit"),
    [("relative", 1, 1), ("relative", -0.1, 1), ("quantile", 1.5, 1), ("mean", -1, "inf")]
    + [(method, float("nan"), "") for method in ("relative", "quantile", "mean")],
)
def test_values_out_of_range_are_refused(method, value, limit):
    expected = rf"value={value} is out of range: method='{method}' takes 0 <= value < {limit}"
    with pytest.raises(ValueError, match=expected):
        loc.binarize(IMAGES, method, value)


def test_otsu_takes_no_value():
    with pytest.raises(ValueError, match=r"method='otsu' finds its own threshold .*; got 0\.5"):
        loc.binarize(IMAGES, "otsu", 0.5)


@pytest.mark.parametrize("function", [loc.frame_boxes, loc.tubes])
def test_frames_need_an_axis_of_time_and_one_of_space(function):
    expected = r"Frames need maps \(N, 1, T, \*S\).*; got \(1, 1, 5\)\. .* use segments\(\)"
    with pytest.raises(ValueError, match=expected):
        function(torch.ones(1, 1, 5))


@pytest.mark.parametrize("fps", [0, -25.0, float("nan"), float("inf")])
def test_frame_rates_are_positive(fps):
    for call in (
        lambda: loc.segments(torch.ones(1, 4), fps=fps),
        lambda: loc.tubes(torch.zeros(1, 1, 2, 2, 2), fps=fps),
        lambda: loc.link([], fps=fps),
        lambda: loc.Segment(0, 1, 1.0, fps),
        lambda: loc.Tube(0, torch.ones(1, 4), 1.0, fps),
    ):
        with pytest.raises(ValueError, match=f"fps={fps} must be a positive number of frames"):
            call()


def test_seconds_need_a_frame_rate():
    for span in (loc.Segment(3, 5, 1.0), loc.Tube(3, torch.ones(2, 4), 1.0)):
        with pytest.raises(ValueError, match=r"frames \[3, 5\) have no time in seconds.*pass fps"):
            _ = span.seconds


@pytest.mark.parametrize("shape", [(0, 4), (4,), (2, 3), (1, 2, 4), (1, 0)])
def test_tubes_have_boxes(shape):
    with pytest.raises(ValueError, match="A tube has one box or more .*; got boxes of shape"):
        loc.Tube(0, torch.zeros(shape), 1.0)


def test_segments_have_frames():
    with pytest.raises(ValueError, match=r"covers the frames \[start, end\).*got \[3, 3\)"):
        loc.Segment(3, 3, 1.0)


@pytest.mark.parametrize(("high", "low"), [(0.3, 0.5), (1, 0.5), (0.5, -0.1), (float("nan"), 0)])
def test_levels_of_hysteresis_are_ordered(high, low):
    with pytest.raises(ValueError, match=f"0 <= low <= high < 1; got high={high}, low={low}"):
        loc.segments(torch.ones(1, 4), high, low)


@pytest.mark.parametrize("profile", [torch.ones(4), torch.ones(1, 0), torch.ones(1, 1, 4), [1.0]])
def test_profiles_are_checked(profile):
    with pytest.raises(ValueError, match=r"Expected a profile \(N, T\) .*temporal_profile\(map\)"):
        loc.segments(profile)


def test_lengths_and_gaps_are_whole_numbers_of_frames():
    functions = [lambda **o: loc.link([], **o), lambda **o: loc.segments(torch.ones(1, 4), **o)]
    for function in functions:
        with pytest.raises(ValueError, match="min_length=0 must be an integer of frames, 1"):
            function(min_length=0)
        with pytest.raises(ValueError, match="max_gap=-1 must be an integer of frames, 0"):
            function(max_gap=-1)
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            function(max_gap=1.5)


@pytest.mark.parametrize("min_iou", [-0.1, 1.1, float("nan")])
def test_min_iou_is_an_iou(min_iou):
    with pytest.raises(ValueError, match=f"min_iou={min_iou} is out of range: an IoU goes from 0"):
        loc.link([], min_iou)


def test_what_is_linked_are_the_frames_of_samples():
    frames = loc.frame_boxes(CLIPS)
    with pytest.raises(TypeError, match=r"got \(1, 4\) for a frame\. Pass one sample's .*\[frames"):
        loc.link(frames[0])
    bad = loc.Boxes(torch.ones(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match=r"boxes \(B, 2R\) and scores \(B,\).*\(2, 4\) and \(3,\)"):
        loc.link([[bad]])
    bad = loc.Boxes(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(ValueError, match=r"boxes \(B, 2R\) and scores \(B,\).*\(2, 3\) and \(2,\)"):
        loc.link([[bad]])
    flat = loc.Boxes(torch.ones(1, 2), torch.ones(1))
    with pytest.raises(ValueError, match="over the same axes; got boxes of 2 and 4 numbers"):
        loc.link([[*frames[0], flat]])
