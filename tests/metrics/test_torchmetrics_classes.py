"""The accumulated scores do not depend on the order of samples, nor on the number of processes."""

import pickle
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from metric_accumulators import SAMPLES, alone, make, update


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
