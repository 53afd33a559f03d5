"""The whole frame as a detector, on the real annotations of UCF101-24."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_3dcam import metrics
from captum_3dcam.metrics import wsol

FILE = Path(__file__).parents[2] / "shared" / "data" / "ucf24" / "pyannot.pkl"
ANNOTATIONS = Path(os.environ.get("UCF24_ANNOTATIONS", FILE))
DELTAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


class ArraysOnly(pickle.Unpickler):
    """A pickle can run anything: this one may only make NumPy arrays."""

    allowed = {
        (f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in
        ("_reconstruct", "scalar")
    } | {("numpy", "ndarray"), ("numpy", "dtype")}  # fmt: skip

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        owner = {"ndarray": np, "dtype": np}.get(name, np._core.multiarray)
        return getattr(owner, name)


@pytest.mark.skipif(not ANNOTATIONS.exists(), reason=f"no annotations at {ANNOTATIONS}")
def test_the_whole_frames_accuracy():
    with ANNOTATIONS.open("rb") as file:
        videos = ArraysOnly(file, encoding="latin1").load()
    whole = torch.tensor([0, 0, 320, 240])
    correct, frames = torch.zeros(len(DELTAS), 1, dtype=torch.int64), 0
    for annotated in videos.values():
        ends = [tube["ef"] for tube in annotated["annotations"]]
        tubes = torch.full((len(ends), max(ends, default=0), 4), torch.nan, dtype=torch.float64)
        for tube, one in zip(tubes, annotated["annotations"], strict=True):
            low, size = np.split(one["boxes"].astype(np.float64), 2, axis=1)
            tube[one["sf"] : one["ef"]] = torch.from_numpy(np.hstack([low - 1, low - 1 + size]))
        present = ~tubes.isnan().any(dim=-1).all(dim=0)
        best = metrics.paired_iou(whole, tubes).amax(dim=0)[present]
        correct += wsol.count_correct(best[:, None], DELTAS)
        frames += len(best)
    assert frames == 478_863
    found = [round(v, 3) for v in (correct[:, 0] / frames).tolist()]
    assert found == [0.782, 0.579, 0.302, 0.132, 0.059, 0.024]


def test_the_unpickler_allows_nothing_else(tmp_path):
    file = tmp_path / "bad.pkl"
    file.write_bytes(pickle.dumps(os.getcwd))
    with file.open("rb") as opened, pytest.raises(pickle.UnpicklingError, match="not allowed"):
        ArraysOnly(opened).load()
    file.write_bytes(pickle.dumps({"a": np.arange(3, dtype=np.uint8)}))
    with file.open("rb") as opened:
        assert ArraysOnly(opened).load()["a"].tolist() == [0, 1, 2]
