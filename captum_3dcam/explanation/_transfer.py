"""From the memory of the CPU to the model's device."""

from functools import cache

import torch
from torch import Tensor


def move_like(x: Tensor, like: Tensor) -> Tensor:
    """A tensor on the device and in the precision of another one.

    To a GPU it is copied from page-locked memory on a stream of its own, beside what the model
    computes; it has arrived on return, so that any stream may use it.
    """
    if not like.is_cuda or x.is_cuda:
        return x.to(like)
    stream = _stream(like.device)
    with torch.cuda.stream(stream):
        moved = x.pin_memory().to(like.device, like.dtype, non_blocking=True)
    stream.synchronize()
    moved.record_stream(torch.cuda.default_stream(like.device))
    return moved


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
