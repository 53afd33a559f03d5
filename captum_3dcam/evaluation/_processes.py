"""The processes that torchrun started, if any."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def process_group() -> Iterator[bool]:
    """Inside, the processes know each other; whether this is the first one."""
    if not dist.is_available() or not dist.is_torchelastic_launched() or dist.is_initialized():
        yield True
        return
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank() == 0
    finally:
        dist.destroy_process_group()
