"""A long video as a stream: its scores by hand, and that no map is kept."""

import json
import weakref

import numpy as np
import pytest
import torch
from study_helpers import run

pytest.importorskip("resource")  # Windows has none

import evaluate_stream
from captum_3dcam.sliding import MapChunk, Window
from trained_networks.action_video import ActionSegment, LongActionVideo


@pytest.fixture(autouse=True)
def threads():
    """The script sets them."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_windows_are_compared_with_the_action_that_they_are_within():
    windows = [
        Window((start,), (start + 16,), predicted, predicted, 0.0, 1.0)
        for start, predicted in ((0, 3), (16, 4), (32, 5), (50, 6))
    ]
    segments = [ActionSegment(2, 34, 3), ActionSegment(48, 60, 6)]
    scores = evaluate_stream.evaluate([1.0] * 66, windows, segments)
    assert scores["windows_within_an_action"] == 2
    assert scores["accuracy"] == 0.5
    assert scores["share_of_map_in_actions"] == pytest.approx(44 / 66)
    assert scores["share_of_time_in_actions"] == pytest.approx(44 / 66)


def test_maps_are_not_kept():
    """Of a hundred parts of the map, at most two are in memory at a time."""
    references, most = [], 0

    def parts():
        nonlocal most
        for number in range(100):
            values = np.full((1, 1, 4, 6, 6), number, np.float32)
            references.append(weakref.ref(values))
            part = MapChunk(4 * number, torch.from_numpy(values), [])
            del values
            yield part
            most = max(most, sum(reference() is not None for reference in references))

    profile, windows = evaluate_stream.consume(parts())
    assert most <= 2
    assert profile == np.arange(100.0).repeat(4).tolist()
    assert windows == []


def test_the_whole_study(tmp_path):
    report = run(evaluate_stream, tmp_path, "--scenes", 3, "--size", 64, "--threads", 1)
    assert json.loads((tmp_path / "stream.json").read_text()) == report
    lengths = [scene.video.shape[1] for scene in LongActionVideo(3, size=16).scenes]
    assert report["frames"] == sum(lengths)
    assert report["boundaries"] == np.cumsum(lengths)[:-1].tolist()
    acting = sum(end - start for start, end, _ in LongActionVideo(3, size=16).segments)
    assert report["share_of_time_in_actions"] == pytest.approx(acting / sum(lengths))
    assert report["share_of_map_in_actions"] > report["share_of_time_in_actions"] + 0.1
    assert report["windows_within_an_action"] >= 4
    assert report["accuracy"] > 0.7
    # Zero, where another test in this process has had a higher peak before.
    assert 0 <= report["peak_memory_mib"] < 1.5 * 1024
