"""What the localization tests share: random maps, and components and boxes by loops."""

from itertools import product

import torch
from hypothesis import strategies as st

from captum_3dcam.localization import Boxes

SIZES = st.integers(1, 3).flatmap(lambda r: st.lists(st.integers(1, 6), min_size=r, max_size=r))
CLIP_SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=3)


@st.composite
def random_maps(draw, sizes=SIZES, batch=None, levels=5):
    """Maps of few levels, so that there are ties, plateaus and empty samples, or of many."""
    size = draw(sizes)
    batch = draw(st.integers(1, 3)) if batch is None else batch
    levels = draw(st.sampled_from([1, 2, levels, 10**6]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    shape = (batch, 1, *size)
    maps = torch.randint(0, levels, shape, generator=generator) / levels
    sparse = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.2, 0.5, 1.0]))
    return maps * sparse


def positions(shape):
    return product(*(range(s) for s in shape))


def naive_components(mask, connectivity):
    """Flood fill from each unlabelled position, in raster order: lists of positions."""
    steps = [
        step
        for step in product((-1, 0, 1), repeat=mask.ndim)
        if 0 < sum(map(abs, step)) <= connectivity
    ]
    components, seen = [], set()
    for seed in positions(mask.shape):
        if not mask[seed] or seed in seen:
            continue
        component, queue = [], [seed]
        seen.add(seed)
        while queue:
            position = queue.pop()
            component.append(position)
            for step in steps:
                near = tuple(p + d for p, d in zip(position, step, strict=True))
                inside = all(0 <= p < s for p, s in zip(near, mask.shape, strict=True))
                if inside and mask[near] and near not in seen:
                    seen.add(near)
                    queue.append(near)
        components.append(component)
    return components


def naive_box(component):
    axes = list(zip(*component, strict=True))[::-1]
    return [min(axis) for axis in axes] + [max(axis) + 1 for axis in axes]


def by_score(pairs):
    return sorted(pairs, key=lambda pair: -pair[1])


def pairs_of(boxes):
    """[(box, score), ...] of Boxes."""
    return list(zip(boxes.boxes.tolist(), boxes.scores.tolist(), strict=True))


def clip_of_rectangles(frames, size=(8, 16)):
    """One clip (1, 1, T, H, W) with rectangles (x0, y0, x1, y1, value) in each frame."""
    maps = torch.zeros(1, 1, len(frames), *size)
    for t, rectangles in enumerate(frames):
        for x0, y0, x1, y1, value in rectangles:
            maps[0, 0, t, y0:y1, x0:x1] = value
    return maps


def frame_of(*boxes):
    """The Boxes of a frame, each given as (x0, y0, x1, y1, score)."""
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4])
