"""Tubes of a clip, against a search for runs in text."""

import math
import re

import torch
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam.datasets import VideoClip


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), max_size=3))
def test_tubes_are_the_runs_of_boxes(present):
    boxes = torch.arange(len(present) * 24.0).reshape(len(present), 6, 4)
    boxes[~torch.tensor(present, dtype=torch.bool).reshape(len(present), 6)] = math.nan
    empty = torch.zeros(0)
    tubes = VideoClip(empty, 0, boxes, None, "", empty, empty).tubes
    rows = ["".join("01"[shown] for shown in row) for row in present]
    expected = [
        (actor, run.start(), run.end())
        for actor, row in enumerate(rows)
        for run in re.finditer("1+", row)
    ]
    assert [(t.start, t.end, t.score) for t in tubes] == [(a, b, 1.0) for _, a, b in expected]
    for tube, (actor, start, end) in zip(tubes, expected, strict=True):
        assert torch.equal(tube.boxes, boxes[actor, start:end])
