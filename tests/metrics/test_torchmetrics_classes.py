"""The accumulated scores do not depend on the order of samples, nor on the number of processes."""

import pickle
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

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
            "energy": (energies, [torch.tensor([[0, 0, 1, 2]])]),
            "tube": ([tube], [tube * (1 + number % 2)]),
            "temporal_hit": (clip.amax(dim=(2, 3)), [torch.tensor([[0, 1]])]),
            "map": ([scored], [detections]),
        }
        for name, metric in accumulators.items():
            metric.update(*arguments[name])


def plain(result):
    """Tensors as numbers, which compare equal."""
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, list):
        return [plain(value) for value in result]
    return result.tolist() if isinstance(result, torch.Tensor) else result


def compute(accumulators):
    return {name: plain(metric.compute()) for name, metric in accumulators.items()}


SHARES = ([[0, 2, 4, 5, 6], [1, 3]], [list(range(SAMPLES)), []])


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    warnings.simplefilter("ignore")  # torchmetrics warns of a process without a sample
    results = []
    for shares in SHARES:
        accumulators = make()
        update(accumulators, shares[rank])
        results.append(compute(accumulators))
    with open(f"{folder}/{rank}", "wb") as file:
        pickle.dump(results, file)
    dist.destroy_process_group()


def alone(share=range(SAMPLES)):
    accumulators = make()
    update(accumulators, share)
    return accumulators


def test_two_processes_have_the_results_of_one(tmp_path):
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    expected = compute(alone())
    for rank in range(2):
        with (tmp_path / str(rank)).open("rb") as file:
            assert pickle.load(file) == [expected] * len(SHARES)
    assert compute(alone([0, 2, 4, 5, 6])) != expected


def test_the_results_depend_on_the_samples():
    """Otherwise the tests of this module could not fail."""
    for name, result in compute(alone()).items():
        numbers = result.values() if isinstance(result, dict) else [result]
        assert any(isinstance(v, float) and 0 < v < 1 for v in numbers), (name, result)


def test_the_order_does_not_matter_and_reset_starts_anew():
    accumulators = alone(range(SAMPLES - 1, -1, -1))
    assert compute(accumulators) == compute(alone())
    for metric in accumulators.values():
        metric.reset()
    update(accumulators, [3])
    assert compute(accumulators) == compute(alone([3]))


def test_metrics_can_be_pickled():
    once = pickle.loads(pickle.dumps(alone([0, 1, 2])))
    update(once, [3, 4, 5, 6])
    assert compute(once) == compute(alone())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    accumulators = {name: metric.to("cuda") for name, metric in make().items()}
    update(accumulators, range(SAMPLES))
    assert compute(accumulators) == compute(alone())
