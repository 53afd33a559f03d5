"""The synthetic actions: ground truth against loops, motion against the label."""

import math
import pickle
import random
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare, ks_2samp, kstest
from torch.utils.data import DataLoader, Dataset

from captum_3dcam.datasets import (
    ACTIONS,
    ActionClip,
    ActionVideo,
    SyntheticActions,
    SyntheticActionVideos,
    freeze,
)
from captum_3dcam.datasets import synthetic as actions
from captum_3dcam.localization import Tube

SIZE = 48
FRAMES = 16
CLIPS = 384
MIDDLE = FRAMES // 2
SLIDES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
ORBITS = {"clockwise": 1, "counter-clockwise": -1}  # as seen on a screen, where y points down


@pytest.fixture(scope="module")
def clips() -> list[ActionClip]:
    data = SyntheticActions(CLIPS, seed=11, frames=FRAMES, size=SIZE)
    return [data[i] for i in range(CLIPS)]


@pytest.fixture(scope="module")
def crowds() -> list[ActionClip]:
    """Clips of two actors, and some of three."""
    several = [(90, 2), (30, 3)]
    return [
        clip
        for length, actors in several
        for clip in SyntheticActions(length, seed=12, size=SIZE, actors=actors)
    ]


@pytest.fixture(scope="module")
def videos() -> list[ActionVideo]:
    return list(SyntheticActionVideos(30, seed=13, actions=4, size=SIZE))


# -------------------------------------------------------------- motion, measured from the masks


def naive_box(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 of a mask (H, W), by looking at every pixel; inclusive-exclusive."""
    positions = [(x, y) for y, row in enumerate(mask) for x, inside in enumerate(row) if inside]
    columns, rows = zip(*positions, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def centres_of(masks: torch.Tensor) -> np.ndarray:
    """(T, H, W) -> (T, 2), the mean x and y of the pixels, in units of the frame's side."""
    centres = []
    for mask in masks.numpy():
        rows, columns = np.nonzero(mask)
        centres.append([columns.mean() + 0.5, rows.mean() + 0.5])
    return np.array(centres) / masks.shape[-1]


def areas_of(masks: torch.Tensor) -> np.ndarray:
    return masks.flatten(1).sum(1).numpy() / masks.shape[-1] ** 2


def is_whole(masks: torch.Tensor) -> bool:
    """No frame's edge cuts the actor."""
    edges = (masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1])
    return not any(edge.any() for edge in edges)


def turning(centres: np.ndarray) -> float:
    """The angle, in turns, through which the velocity turns; from right to down is positive."""
    total = 0.0
    steps = np.diff(centres, axis=0)
    for (x0, y0), (x1, y1) in pairwise(steps):
        total += math.atan2(x0 * y1 - y0 * x1, x0 * x1 + y0 * y1)
    return total / math.tau


def travel(centres: np.ndarray) -> np.ndarray:
    return centres[-1] - centres[0]


def path_length(centres: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())


def swing(centres: np.ndarray) -> np.ndarray:
    """The positions (T,) along the axis of largest variance, from their mean."""
    moved = centres - centres.mean(0)
    return moved @ np.linalg.svd(moved, full_matrices=False)[2][0]


def recognise(centres: np.ndarray, areas: np.ndarray) -> str:
    """The action, by rules that are independent of the implementation."""
    if areas[-1] > 2.5 * areas[0]:
        return "grow"
    net = travel(centres)
    if np.linalg.norm(net) > 0.8 * path_length(centres):
        return max(SLIDES, key=lambda name: float(net @ SLIDES[name]))
    turns = turning(centres)
    if abs(turns) > 0.7 and path_length(centres) < 5 * np.ptp(swing(centres)):
        return "clockwise" if turns > 0 else "counter-clockwise"
    return "shake"


def whole_clips(clips: list[ActionClip], name: str) -> list[torch.Tensor]:
    """The masks of the clips of one action that are not cut by an edge."""
    label = ACTIONS.index(name)
    masks = [c.masks[0] for c in clips if c.labels.tolist() == [label] and is_whole(c.masks[0])]
    assert len(masks) > 20
    return masks


# -------------------------------------------------------------------------------- generation


DATASETS = [
    SyntheticActions(6, seed=3, frames=8, size=32),
    SyntheticActions(6, seed=3, frames=8, size=32, actors=2),
    SyntheticActionVideos(3, seed=3, actions=2, size=32),
]


def equal(a, b) -> bool:
    return all(torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("data", DATASETS, ids=["one", "two", "videos"])
def test_a_sample_depends_on_seed_and_index_alone(data):
    forwards = list(data)
    torch.manual_seed(123)
    np.random.seed(123)
    random.seed(123)
    again = pickle.loads(pickle.dumps(data))
    backwards = [again[i] for i in reversed(range(len(data)))][::-1]
    assert all(equal(a, b) for a, b in zip(forwards, backwards, strict=True))


@pytest.mark.parametrize("data", DATASETS, ids=["one", "two", "videos"])
def test_the_global_generators_are_not_changed(data):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    list(data)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before


def test_samples_do_not_share_memory():
    data = SyntheticActions(1, frames=8, size=32)
    first, second = data[0], data[0]
    first.clip.zero_()
    first.masks.zero_()
    assert second.clip.any()
    assert equal(second, data[0])


def test_another_seed_or_index_is_another_clip():
    kinds = [SyntheticActions(17, seed=seed, frames=8, size=32) for seed in (0, 1)]
    clips = [kinds[0][0], kinds[0][8], kinds[0][16], kinds[1][0], kinds[1][8]]
    assert {int(clip.labels) for clip in clips} == {0}
    for i, a in enumerate(clips):
        assert not any(torch.equal(a.clip, b.clip) for b in clips[:i])


def test_a_longer_dataset_starts_with_the_shorter_one():
    short, long = (SyntheticActions(n, seed=5, frames=8, size=32) for n in (3, 300))
    assert all(equal(short[i], long[i]) for i in range(3))


def test_samples_of_a_seed_do_not_change():
    """Trained weights and published figures depend on them."""
    data = SyntheticActions(8, seed=0)
    first = {0: [35, 32, 54, 53], 4: [23, 12, 37, 26], 6: [20, 24, 27, 31]}
    last = {0: [16, 32, 35, 53], 4: [25, 12, 39, 26], 6: [16, 20, 31, 35]}
    assert {i: data[i].boxes[0, 0].tolist() for i in first} == first
    assert {i: data[i].boxes[0, -1].tolist() for i in last} == last
    assert data[0].clip.mean().item() == pytest.approx(0.5026, abs=1e-4)
    two = SyntheticActions(1, seed=10**6, actors=2)[0]
    assert two.labels.tolist() == [7, 0]
    assert two.boxes[:, MIDDLE].tolist() == [[20, 43, 30, 53], [15, 20, 23, 28]]
    video = SyntheticActionVideos(1)[0]
    assert video.labels.tolist() == [6, 5, 4, 2]
    assert video.segments.tolist() == [[13, 42], [50, 77], [86, 117], [125, 149]]
    assert video.boxes[0, 13].tolist() == [32, 35, 39, 42]
    assert video.video.mean().item() == pytest.approx(0.5300, abs=1e-4)


@pytest.mark.parametrize("frames", [4, 7, 16])
@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("actors", [1, 2, 3])
def test_shapes_types_and_ranges(frames, size, actors):
    clip, labels, boxes, masks = SyntheticActions(9, frames=frames, size=size, actors=actors)[8]
    assert clip.shape == (3, frames, size, size)
    assert clip.dtype == torch.float32
    assert 0 <= clip.min() < 0.3 < 0.7 < clip.max() <= 1
    assert (labels.shape, labels.dtype) == ((actors,), torch.int64)
    assert (boxes.shape, boxes.dtype) == ((actors, frames, 4), torch.float32)
    assert (masks.shape, masks.dtype) == ((actors, frames, size, size), torch.bool)


@pytest.mark.parametrize("size", [32, 48])
@pytest.mark.parametrize("actors", [1, 2])
def test_any_size_shows_the_same_scene(size, actors):
    small, large = (SyntheticActions(16, seed=2, size=s, actors=actors) for s in (size, 2 * size))
    for a, b in zip(small, large, strict=True):
        assert torch.equal(a.labels, b.labels)
        # The edge of a mask is half a pixel off at most; so each side of a box may be one off.
        assert (2 * a.boxes - b.boxes).abs().max() <= 3
        halved = F.avg_pool2d(b.masks.float(), 2)
        assert (halved - a.masks.float()).abs().mean() < 0.01
        assert (F.avg_pool2d(b.clip.movedim(1, 0), 2).movedim(0, 1) - a.clip).abs().mean() < 0.04


# ------------------------------------------------------------------------------ ground truth


def test_boxes_are_tight_around_the_masks(clips, crowds):
    for clip in [*clips[::8], *crowds[::6]]:
        for masks, boxes in zip(clip.masks.numpy(), clip.boxes.tolist(), strict=True):
            assert [naive_box(mask) for mask in masks] == boxes


def test_an_actor_is_visible_in_every_frame(clips, crowds):
    smallest = SyntheticActions(96, seed=6, frames=8, size=32)
    for clip in [*clips, *crowds, *smallest]:
        assert clip.masks.flatten(2).any(2).all()
        assert (clip.boxes[..., :2] < clip.boxes[..., 2:]).all()
        assert clip.boxes.min() >= 0
        assert clip.boxes.max() <= clip.masks.shape[-1]


def test_a_frame_without_the_actor_has_a_box_of_nan(monkeypatch):
    """Actors can be too small in frames of 16 pixels; here all of them are."""
    monkeypatch.setattr(actions, "_RADIUS", (0.02, 0.03))
    clips = list(SyntheticActions(8, seed=1, frames=8, size=16))
    shown = torch.cat([clip.masks[0].flatten(1).any(1) for clip in clips])
    boxes = torch.cat([clip.boxes[0] for clip in clips])
    assert 0 < shown.sum() < len(shown)
    assert boxes[~shown].isnan().all()
    assert boxes[shown].isfinite().all()


def test_the_actor_is_where_the_mask_is(clips):
    """All pixels inside the mask have its two colours or a mixture, in all frames."""
    for clip in clips[::10]:
        colours = [clip.clip[:, t, mask].unique(dim=1) for t, mask in enumerate(clip.masks[0])]
        # Two colours and their mixtures lie on a line in RGB, the same one in all frames.
        points = torch.cat(colours, dim=1).double()
        values = torch.linalg.svdvals(points - points.mean(1, keepdim=True))
        assert values[1] <= 1e-5 * max(values[0], 1)


def test_the_mask_is_all_of_the_actor(clips):
    """No pixel around the mask has its colours."""
    strays = 0
    for clip in clips[::10]:
        for t, mask in enumerate(clip.masks[0].float()):
            inside = clip.clip[:, t, mask.bool()]
            rim = (F.max_pool2d(mask[None], 3, 1, 1)[0] - mask).bool()
            gaps = (clip.clip[:, t, rim][..., None] - inside[:, None]).abs().amax(0)
            strays += int((gaps.amin(1) < 1e-6).sum())
    assert strays == 0


@pytest.mark.parametrize("name", [*SLIDES, *ORBITS, "shake"])
def test_the_texture_moves_with_the_actor(clips, name):
    """Seen from its centre, an actor looks the same in all frames."""
    forwards, backwards = [], []
    whole = [c for c in clips if ACTIONS[c.labels[0]] == name and is_whole(c.masks[0])]
    for clip in whole:
        centres = SIZE * centres_of(clip.masks[0])
        for t in (3, 7, 15):
            move = centres[t] - centres[0]
            for errors, (x, y) in ((forwards, move), (backwards, -move)):
                shifted = shift(clip.clip[:, t], x, y)
                errors.append((shifted - clip.clip[:, 0]).abs().amax(0)[clip.masks[0, 0]])
    # Not zero: the texture is resampled in every frame, and its patches have sharp edges.
    assert torch.cat(forwards).nanmean() < 0.08
    assert torch.cat(backwards).nanmean() > 0.2


def test_actors_come_in_every_size(clips):
    """Their radii in the middle frame are log-uniform."""
    middles = torch.cat([clip.masks[:, MIDDLE] for clip in clips])
    assert is_whole(middles)
    radii = np.sqrt(areas_of(middles) / math.pi)
    assert 0.055 < radii.min() < 0.065
    assert 0.155 < radii.max() < 0.165
    spread = np.log(radii / 0.06) / math.log(0.16 / 0.06)
    assert kstest(spread, "uniform").pvalue > 0.05


def test_tubes_of_a_clip(crowds):
    clip = crowds[0]
    assert [type(tube) for tube in clip.tubes] == [Tube, Tube]
    for tube, boxes in zip(clip.tubes, clip.boxes, strict=True):
        assert (tube.start, tube.end, tube.score) == (0, FRAMES, 1.0)
        assert torch.equal(tube.boxes, boxes)


# ------------------------------------------------------------------------------------ motion


def test_classes_alternate(clips):
    assert [int(clip.labels) for clip in clips] == [i % 8 for i in range(CLIPS)]
    assert len(ACTIONS) == len(set(ACTIONS)) == 8


@pytest.mark.parametrize("name", SLIDES)
def test_slides_go_where_they_say(clips, name):
    distances = []
    for masks in whole_clips(clips, name):
        centres = centres_of(masks)
        along, across = centres @ SLIDES[name], centres @ SLIDES[name][::-1]
        distances.append(along[-1] - along[0])
        assert (np.diff(along) > 0).all()
        assert np.ptp(across) < 1 / SIZE
        assert np.ptp(areas_of(masks)) < 0.35 * areas_of(masks).mean()
        # Even steps, to the rounding of a mask to pixels.
        even = np.linspace(along[0], along[-1], FRAMES)
        assert np.abs(along - even).max() < 1 / SIZE
    assert 0.27 < min(distances) < 0.32
    assert 0.36 < max(distances) < 0.41


@pytest.mark.parametrize("name", ORBITS)
def test_orbits_turn_as_seen_on_the_screen(clips, name):
    turns = []
    for masks in whole_clips(clips, name):
        centres = centres_of(masks)
        assert np.linalg.norm(travel(centres)) < 0.22
        turns.append(turning(centres) * ORBITS[name])
        radius = np.ptp(centres, axis=0) / 2
        assert (radius > 0.07).all()
        assert (radius < 0.12).all()
    # The 14 turns between 15 steps, of 1 to 1.3 circles.
    turns = np.array(turns) * 15 / 14
    assert turns.min() > 0.97
    assert turns.max() < 1.33
    assert np.ptp(turns) > 0.2


def test_clockwise_is_right_down_left_up():
    """A worked example of the rule above: y points down."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
    assert turning(corners) == pytest.approx(0.75)
    assert turning(corners[::-1]) == pytest.approx(-0.75)


def test_grow_grows_in_place(clips):
    ratios = []
    for masks in whole_clips(clips, "grow"):
        areas = areas_of(masks)
        assert np.linalg.norm(np.ptp(centres_of(masks), axis=0)) < 0.04
        assert (np.diff(areas) > -0.1 * areas[:-1]).all()
        ratios.append(math.sqrt(areas[-1] / areas[0]))
    assert min(ratios) > 1.7
    assert max(ratios) < 3.2
    assert 2.25 < np.mean(ratios) < 2.55


def test_shake_goes_back_and_forth(clips):
    for masks in whole_clips(clips, "shake"):
        centres = centres_of(masks)
        along = swing(centres)
        assert np.ptp(along) < 2 * 0.08 + 1 / SIZE
        assert path_length(centres) > 4 * np.ptp(along)
        # 3 to 4.3 periods, each with two reversals.
        assert 4 <= (np.diff(np.sign(np.diff(along))) != 0).sum() <= 10
        assert abs(np.polyfit(np.arange(FRAMES), along, 1)[0]) < 0.1 / FRAMES


def test_the_motion_determines_the_class(clips):
    """For every clip that is not cut by an edge."""
    whole = [clip for clip in clips if is_whole(clip.masks[0])]
    assert len(whole) > CLIPS / 2
    for clip in whole:
        masks = clip.masks[0]
        assert recognise(centres_of(masks), areas_of(masks)) == ACTIONS[clip.labels[0]]


# -------------------------------------------------------------------------- the middle frame


def looks(clips: list[ActionClip], frame: int) -> np.ndarray:
    """(N, 3): x, y and the logarithm of the area of the actor in one frame."""
    masks = torch.cat([clip.masks[:, frame] for clip in clips])
    return np.column_stack([centres_of(masks), np.log(areas_of(masks))])


def smallest_p(values: np.ndarray) -> float:
    """Kolmogorov-Smirnov, each class against the others in each column; Bonferroni-corrected."""
    labels = np.arange(len(values)) % len(ACTIONS)
    p_values = [
        ks_2samp(column[labels == label], column[labels != label]).pvalue
        for column in values.T
        for label in range(len(ACTIONS))
    ]
    return min(p_values) * len(p_values)


def probe(features: np.ndarray) -> float:
    """The accuracy of a ridge classifier, fitted to two thirds of the clips, on the others."""
    labels = np.arange(len(features)) % len(ACTIONS)
    x = (features - features.mean(0)) / (features.std(0) + 1e-6)
    x = np.column_stack([x, np.ones(len(x))])
    held_out = np.arange(len(x)) // len(ACTIONS) % 3 == 2
    a, targets = x[~held_out], np.eye(len(ACTIONS))[labels[~held_out]]
    weights = np.linalg.solve(a.T @ a + 50 * np.eye(a.shape[1]), a.T @ targets)
    return float(((x[held_out] @ weights).argmax(1) == labels[held_out]).mean())


def coarse_frames(clips: list[ActionClip], frame: int) -> np.ndarray:
    """(N, F): one frame and the actor's mask in it, at low resolution."""
    frames = torch.stack([clip.clip[:, frame] for clip in clips])
    masks = torch.stack([clip.masks[:, frame] for clip in clips]).float()
    channels = torch.cat([frames, masks], dim=1)
    return F.adaptive_avg_pool2d(channels, 6).flatten(1).numpy()


def test_the_middle_frame_is_independent_of_the_class(clips):
    assert smallest_p(looks(clips, MIDDLE)) > 0.05
    # The same test detects the class in the first and last frames.
    assert smallest_p(looks(clips, 0)) < 1e-4
    assert smallest_p(looks(clips, -1)) < 1e-4


def test_a_probe_of_the_middle_frame_is_at_chance(clips):
    chance = 1 / len(ACTIONS)
    deviation = math.sqrt(chance * (1 - chance) / (CLIPS / 3))
    for features in (coarse_frames, looks):
        assert probe(features(clips, MIDDLE)) < chance + 2.5 * deviation
    # The same probe detects the class in the first frame, and in the motion.
    assert probe(looks(clips, 0)) > chance + 2.5 * deviation
    assert probe(np.column_stack([looks(clips, t) for t in (0, MIDDLE, -1)])) > 0.5


def test_freeze_repeats_the_middle_frame(clips):
    clip = clips[0].clip
    frozen = freeze(clip)
    assert frozen.shape == clip.shape
    assert all(torch.equal(frozen[:, t], clip[:, MIDDLE]) for t in range(FRAMES))
    frozen[:, 0] = 0  # frames do not share memory
    assert torch.equal(frozen[:, 1], clip[:, MIDDLE])


@pytest.mark.parametrize("frame", [0, 3, -1])
def test_freeze_takes_any_frame_of_a_batch(frame):
    batch = torch.rand(2, 3, 5, 4, 4)
    frozen = freeze(batch, frame)
    assert torch.equal(frozen, torch.stack([batch[:, :, frame]] * 5, dim=2))


@pytest.mark.parametrize("frame", [5, -6])
def test_freeze_refuses_a_frame_out_of_range(frame):
    with pytest.raises(IndexError, match=f"index {frame} is out of bounds .* size 5"):
        freeze(torch.rand(3, 5, 4, 4), frame)


# -------------------------------------------------------------------------------- background


def shift(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """An image (C, H, W) sampled at every pixel + (x, y); nan outside of the image."""
    size = image.shape[-1]
    columns, rows = torch.arange(size) + x, torch.arange(size) + y
    rows, columns = torch.meshgrid(rows, columns, indexing="ij")
    grid = (2 * torch.stack([columns, rows], dim=-1) + 1) / size - 1
    outside = (grid.abs() > 1 - 1 / size).any(-1)
    shifted = F.grid_sample(image[None], grid[None].float(), align_corners=False)[0]
    return shifted.masked_fill(outside, math.nan)


def residual(clip: ActionClip, frame: int, x: float, y: float) -> np.ndarray:
    """The difference between the background of a frame and the shifted one of frame 0."""
    actor = clip.masks.any(0).float()
    known = (actor[frame] == 0) & (shift(actor[:1], x, y)[0] == 0)
    return (shift(clip.clip[:, 0], x, y) - clip.clip[:, frame]).abs().amax(0)[known].numpy()


def find_drift(clip: ActionClip) -> tuple[float, float]:
    """The speed (x, y) that explains the last frame best, by trying many, then finer ones."""
    x = y = 0.0
    for reach in (0.3, 0.06, 0.012):
        steps = np.linspace(-reach, reach, 9)
        _, x, y = min(
            (np.median(residual(clip, FRAMES - 1, 15 * (x + dx), 15 * (y + dy))), x + dx, y + dy)
            for dx in steps
            for dy in steps
        )
    return x, y


def test_the_background_drifts_as_a_whole(clips):
    """Texture and shapes alike, by a constant step of at most 0.6 % of the side."""
    speeds = []
    for clip in clips[:12]:
        x, y = find_drift(clip)
        speeds.append(math.hypot(x, y) / SIZE)
        for frame in (5, 10, 15):
            left = residual(clip, frame, frame * x, frame * y)
            assert np.median(left) < 0.04
            assert np.quantile(left, 0.99) < 0.25
    assert max(speeds) < 0.0065
    assert np.mean(speeds) > 0.0015


def test_the_background_has_no_flat_parts_and_holds_distractors(clips):
    """Sharp edges outside the actor belong to shapes that drift with the background."""
    sharp = []
    for clip in clips[:40]:
        frame, actor = clip.clip[:, MIDDLE], clip.masks[0, MIDDLE].float()[None]
        around = F.max_pool2d(actor, 3, 1, 1)[0, :, 1:] > 0
        steps = frame.diff(dim=-1).abs().amax(0)[~around]
        sharp.append((steps > 0.3).float().mean())
        blocks = F.unfold(frame[None], 8, stride=8).reshape(3, 64, -1)
        assert blocks.std(1).amax(0).min() > 0
    assert np.mean(sharp) > 0.01


# ------------------------------------------------------------------------------- two or three


def test_actors_do_different_actions_and_never_overlap(crowds):
    for clip in crowds:
        assert len(set(clip.labels.tolist())) == len(clip.labels)
        assert clip.masks.sum(0).max() == 1


def test_every_action_is_as_frequent_among_two_actors():
    data = SyntheticActions(120, seed=4, frames=4, size=16, actors=2)
    counts = torch.cat([clip.labels for clip in data]).bincount(minlength=8)
    assert chisquare(counts.numpy()).pvalue > 0.01


def test_each_actor_of_several_does_what_its_label_says(crowds):
    checked = 0
    for clip in crowds:
        for label, masks in zip(clip.labels, clip.masks, strict=True):
            if is_whole(masks):
                assert recognise(centres_of(masks), areas_of(masks)) == ACTIONS[label]
                checked += 1
    assert checked > 100


# -------------------------------------------------------------------------- untrimmed videos


def test_segments_and_pauses(videos):
    lengths, pauses = [], []
    for video in videos:
        total = video.video.shape[1]
        assert video.video.shape == (3, total, SIZE, SIZE)
        assert 0 <= video.video.min() < video.video.max() <= 1
        assert (video.labels.shape, video.labels.dtype) == ((4,), torch.int64)
        assert (video.segments.shape, video.segments.dtype) == ((4, 2), torch.int64)
        assert (video.boxes.shape, video.boxes.dtype) == ((4, total, 4), torch.float32)
        lengths += [end - start for start, end in video.segments.tolist()]
        around = [0, *video.segments.flatten().tolist(), total]
        pauses += [b - a for a, b in zip(around[::2], around[1::2], strict=True)]
    assert (min(lengths), max(lengths)) == (16, 32)
    assert (min(pauses), max(pauses)) == (8, 24)
    assert len({video.video.shape[1] for video in videos}) > 10


def test_boxes_are_nan_exactly_outside_the_segments(videos):
    for video in videos:
        for boxes, (start, end) in zip(video.boxes, video.segments.tolist(), strict=True):
            assert boxes[start:end].isfinite().all()
            assert boxes[:start].isnan().all()
            assert boxes[end:].isnan().all()


def test_an_actor_appears_and_disappears_in_its_box(videos):
    """Between the frame before and the first one, and the last one and the frame after."""
    for video in videos[::3]:
        for boxes, (start, end) in zip(video.boxes, video.segments.tolist(), strict=True):
            for t, box in ((start, boxes[start]), (end, boxes[end - 1])):
                change = (video.video[:, t] - video.video[:, t - 1]).abs().amax(0)
                x0, y0, x1, y1 = (int(v) for v in box)
                outside = torch.ones_like(change, dtype=torch.bool)
                outside[y0:y1, x0:x1] = False
                assert change[y0:y1, x0:x1].mean() > 2 * change[outside].mean()
                # Each side of the box touches what has changed.
                sides = (change[y0, x0:x1], change[y1 - 1, x0:x1])
                sides += (change[y0:y1, x0], change[y0:y1, x1 - 1])
                assert min(side.max() for side in sides) > change[outside].mean()


def test_the_boxes_of_a_segment_do_what_its_label_says(videos):
    checked, seen = 0, set()
    for video in videos:
        for tube, label in zip(video.tubes, video.labels, strict=True):
            low, high = tube.boxes[:, :2].numpy() / SIZE, tube.boxes[:, 2:].numpy() / SIZE
            if low.min() > 0 and high.max() < 1:
                action = recognise((low + high) / 2, (high - low).prod(1))
                checked += action == ACTIONS[label]
                checked -= action != ACTIONS[label]
                seen.add(int(label))
    assert checked > 30
    assert seen == set(range(8))


def test_tubes_of_a_video(videos):
    for video in videos[:5]:
        for i, tube in enumerate(video.tubes):
            assert [tube.start, tube.end] == video.segments[i].tolist()
            assert tube.score == 1
            assert torch.equal(tube.boxes, video.boxes[i, tube.start : tube.end])


@pytest.mark.parametrize("actions", [1, 2, 6])
@pytest.mark.parametrize("size", [16, 33])
def test_videos_of_any_number_of_actions(actions, size):
    video = SyntheticActionVideos(1, actions=actions, size=size)[0]
    assert video.video.shape[2:] == (size, size)
    assert len(video.labels) == len(video.segments) == len(video.boxes) == actions


def test_every_action_is_as_frequent_in_videos():
    data = SyntheticActionVideos(12, seed=4, actions=16, size=16)
    counts = torch.cat([video.labels for video in data]).bincount(minlength=8)
    assert chisquare(counts.numpy()).pvalue > 0.01


# -------------------------------------------------------------------------------- data loader


# Newer Pythons warn of any fork beside threads, torch of more workers than there are cores.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("actors", [1, 2])
def test_workers_return_the_same_samples(actors, one_thread):
    data = SyntheticActions(5, seed=9, frames=8, size=32, actors=actors)
    batches = list(DataLoader(data, batch_size=2, num_workers=2))
    assert [len(batch.clip) for batch in batches] == [2, 2, 1]
    assert all(isinstance(batch, ActionClip) for batch in batches)
    whole = ActionClip(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    assert all(equal(ActionClip(*(x[i] for x in whole)), data[i]) for i in range(5))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_loader_takes_videos_one_by_one(one_thread):
    data = SyntheticActionVideos(2, seed=9, actions=2, size=32)
    loaded = list(DataLoader(data, batch_size=None, num_workers=1))
    assert all(equal(a, b) for a, b in zip(loaded, data, strict=True))


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"length": -1}, "length=-1: expected an integer, 0 or more."),
        ({"length": 2.0}, "length=2.0: expected an integer, 0 or more."),
        ({"seed": -1}, "seed=-1: expected an integer, 0 or more."),
        ({"frames": 3}, "frames=3: expected an integer, 4 or more."),
        ({"size": 15}, "size=15: expected an integer, 16 or more."),
        ({"size": "64"}, "size='64': expected an integer, 16 or more."),
        ({"actors": 0}, "actors=0: expected an integer, 1 or more."),
        ({"actors": 1.0}, "actors=1.0: expected an integer, 1 or more."),
        ({"actors": 4}, "actors=4: expected at most 3."),
    ],
)
def test_invalid_arguments_of_clips_are_refused(keywords, message):
    with pytest.raises(ValueError) as error:
        SyntheticActions(**{"length": 8} | keywords)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"length": -1}, "length=-1: expected an integer, 0 or more."),
        ({"seed": None}, "seed=None: expected an integer, 0 or more."),
        ({"actions": 0}, "actions=0: expected an integer, 1 or more."),
        ({"size": 8}, "size=8: expected an integer, 16 or more."),
    ],
)
def test_invalid_arguments_of_videos_are_refused(keywords, message):
    with pytest.raises(ValueError) as error:
        SyntheticActionVideos(**{"length": 8} | keywords)
    assert str(error.value) == message


@pytest.mark.parametrize("kind", [SyntheticActions, SyntheticActionVideos])
@pytest.mark.parametrize("index", [3, -1])
def test_an_index_out_of_range_is_refused(kind, index):
    data: Dataset = kind(3)
    with pytest.raises(IndexError) as error:
        data[index]
    assert str(error.value) == f"There is no sample {index}: the dataset has 3, numbered from 0."


def test_numpy_integers_are_accepted():
    one, other = SyntheticActions(3, seed=2), SyntheticActions(np.int64(3), seed=np.int32(2))
    assert len(one) == len(other) == 3
    assert equal(one[1], other[np.int64(1)])


def test_the_repr_is_the_constructor():
    for data in DATASETS:
        assert eval(repr(data)) == data
    assert repr(SyntheticActions(3)) == (
        "SyntheticActions(length=3, seed=0, frames=16, size=64, actors=1)"
    )


def test_a_dataset_may_be_empty():
    assert list(SyntheticActions(0)) == list(SyntheticActionVideos(0)) == []
