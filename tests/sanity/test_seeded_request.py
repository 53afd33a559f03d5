"""The random generators of devices, and targets and maps that are not valid."""

from contextlib import contextmanager

import torch

from captum_3dcam.sanity._seeded_request import seed_generators


def test_only_the_given_accelerators_are_seeded(monkeypatch):
    """Only those are restored afterwards. The test needs no accelerator."""
    log = []

    class Backend:
        @contextmanager
        def device(self, device):
            log.append(device)
            yield

        def manual_seed(self, seed):
            log.append(seed)

    monkeypatch.setattr(torch, "get_device_module", lambda device: Backend())
    with torch.random.fork_rng(devices=[]):
        seed_generators(5, [torch.device(name) for name in ("cpu", "cuda:1", "meta")])
        assert torch.default_generator.initial_seed() == 5
    assert log == [torch.device("cuda:1"), 5]
