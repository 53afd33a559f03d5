"""Every class of captum_3dcam.metrics, and samples to accumulate."""

import torch

from captum_3dcam import metrics

SAMPLES = 7


def make():
    return {
        "v1": metrics.MaxBoxAcc(),
        "v2": metrics.MaxBoxAcc((0.3, 0.5, 0.7), multi_contour=True),
        "own": metrics.MaxBoxAcc(threshold_selection="per_sample"),
        "clips": metrics.MaxBoxAcc3D((0.1, 0.3)),
        "px_ap": metrics.PxAP(),
        "argmax": metrics.HitPoint("argmax", tolerance=2),
        "intersect": metrics.HitPoint("intersect", threshold=0.97),
        "acc2": metrics.Acc2(),
        "box": metrics.BoxAccuracy((0.1, 0.3)),
        "energy": metrics.EnergyInside(),
        "ap": metrics.PixelAveragePrecision(),
        "rank": metrics.RelevanceRankAccuracy(),
        "tube": metrics.TubeIoU(),
        "temporal_hit": metrics.TemporalHit(tolerance=2),
        "map": metrics.TemporalMAP((0.1, 0.3)),
    }


def update(accumulators, share):
    """Samples depend on their number only, so that each process has the same ones."""
    for number in share:
        generator = torch.Generator().manual_seed(number)
        clip = torch.rand(1, 3, 9, 9, generator=generator)
        corners = torch.randint(0, 9, (2, 3, 2), generator=generator)
        boxes = torch.cat([corners.amin(0), corners.amax(0)], dim=1)
        exclusive = boxes + torch.tensor([0, 0, 1, 1])
        # Dyadic, so that sums do not depend on their order.
        energies = torch.zeros(1, 2, 2).index_fill_(2, torch.tensor([number % 2]), 1.0)
        start = torch.rand(4, generator=generator)
        detections = {
            "segments": torch.stack([start, start + 0.5], dim=1),
            "labels": torch.tensor([0, 1, 1, number % 3]),
        }
        scored = detections | {"segments": detections["segments"] + 0.3}
        scored["scores"] = torch.rand(4, generator=generator)
        tube = torch.tensor([0.0, 0.0, 2.0, 2.0]).repeat(4, 1)
        arguments = {
            **dict.fromkeys(("v1", "v2", "own"), (clip[:, 0], [boxes])),
            "clips": (clip, [boxes]),
            "px_ap": (clip, clip > 0.3),
            **dict.fromkeys(("argmax", "intersect"), (clip[:, 1], [exclusive[:1]])),
            "acc2": (torch.tensor([number % 2 == 0]), torch.tensor([number % 3 == 0])),
            "box": (exclusive[:1], [exclusive[1:]]),
            **dict.fromkeys(("energy", "ap", "rank"), (energies, [torch.tensor([[0, 0, 1, 2]])])),
            "tube": ([tube], [tube * (1 + number % 2)]),
            "temporal_hit": (clip.amax(dim=(2, 3)), [torch.tensor([[0, 1]])]),
            "map": ([scored], [detections]),
        }
        for name, metric in accumulators.items():
            metric.update(*arguments[name])


def alone(share=range(SAMPLES)):
    accumulators = make()
    update(accumulators, share)
    return accumulators
