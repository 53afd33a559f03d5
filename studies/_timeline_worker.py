"""One process of an evaluation: writes when it scored each of its samples to a folder."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from captum_3dcam import GlobalLocalCAM3D
from captum_3dcam.datasets import SyntheticActions
from captum_3dcam.evaluation import Sample, evaluate
from trained_networks.action_net import HELD_OUT_SEED, LAYERS, load_action_net

CLIPS = 8


class Timed:
    """An attribution that notes which clip it explained, and from when to when."""

    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples
        self.cam = GlobalLocalCAM3D(load_action_net(), LAYERS)
        self.spans: list[tuple[int, float, float]] = []

    def attribute(self, inputs: torch.Tensor, target: Any) -> torch.Tensor:
        number = next(i for i, s in enumerate(self.samples) if torch.equal(s.inputs, inputs[0]))
        start = time.time()
        attribution = self.cam.attribute(inputs, target=target)
        self.spans.append((number, start, time.time()))
        return attribution


def main(folder: Path) -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    clips = SyntheticActions(CLIPS, seed=HELD_OUT_SEED)
    samples = [Sample(c.clip, int(c.labels[0]), c.boxes[0], c.masks[0]) for c in clips]
    timed = Timed(samples)
    dist.barrier()
    evaluate({"3DCAM": timed}, samples)
    (folder / f"process {dist.get_rank()}.json").write_text(json.dumps(timed.spans))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
