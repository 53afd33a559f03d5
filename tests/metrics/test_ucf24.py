"""The whole frame as a detector, on the real annotations of UCF101-24."""

import os
from pathlib import Path

import pytest
import torch

from captum_3dcam import metrics
from captum_3dcam.datasets import load_pyannot

FILE = Path(__file__).parents[3] / "shared" / "data" / "ucf24" / "pyannot.pkl"
ANNOTATIONS = Path(os.environ.get("UCF24_ANNOTATIONS", FILE))
DELTAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.mark.skipif(not ANNOTATIONS.exists(), reason=f"no annotations at {ANNOTATIONS}")
def test_the_whole_frames_accuracy():
    frame = torch.tensor([0, 0, 320, 240])
    correct, frames = torch.zeros(len(DELTAS), 1, dtype=torch.int64), 0
    for annotated in load_pyannot(ANNOTATIONS).values():
        tubes = torch.from_numpy(annotated.boxes(0, annotated.frames)).double()
        present = ~tubes.isnan().any(dim=-1).all(dim=0)
        best = metrics.paired_iou(frame, tubes).amax(dim=0)[present]
        correct += metrics.count_correct(best[:, None], DELTAS)
        frames += len(best)
    assert frames == 478_863
    accuracy = [round(v, 3) for v in (correct[:, 0] / frames).tolist()]
    assert accuracy == [0.782, 0.579, 0.302, 0.132, 0.059, 0.024]
