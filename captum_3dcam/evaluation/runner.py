"""Run attributions over samples, on one process or several."""

import os
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm.auto import tqdm

from captum_3dcam._validation import describe
from captum_3dcam.evaluation._checkpoint import describe_run, open_checkpoint
from captum_3dcam.evaluation._types import Attribution
from captum_3dcam.evaluation.bootstrap import Bootstrap
from captum_3dcam.evaluation.faithfulness import Faithfulness
from captum_3dcam.evaluation.results import Evaluation
from captum_3dcam.evaluation.samples import Samples
from captum_3dcam.evaluation.scoring import BASELINES, Scores, score_sample


def make_attributions(
    model: Callable[..., Tensor],
    methods: Mapping[str, Callable[[Any, Any], Attribution]],
    layer_sets: Mapping[str, Sequence[Any]],
) -> dict[str, Attribution]:
    """Every method with every set of layers, named ``"method: layers"``.

    A method is a class of :mod:`captum_3dcam.attribution`, or a function of (model, layers).

    >>> from torch import nn
    >>> from captum_3dcam import LayerwiseHiResCAM
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> layer_sets = {"both": ["0", "1"], "last": ["1"]}
    >>> list(make_attributions(model, {"HiResCAM": LayerwiseHiResCAM}, layer_sets))
    ['HiResCAM: both', 'HiResCAM: last']
    """
    return {
        f"{method}: {layers}": make(model, names)
        for layers, names in layer_sets.items()
        for method, make in methods.items()
    }


def evaluate(
    attributions: Mapping[str, Attribution],
    samples: Samples,
    *,
    tolerance: float = 0.0,
    device: torch.device | str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
    bootstrap: Bootstrap | None = None,
    faithfulness: Sequence[str] | Faithfulness = (),
) -> Evaluation:
    """Score the maps of all attributions on all samples, and the :data:`BASELINES`.

    Where :mod:`torch.distributed` is initialised, each process takes a share of the samples, and
    all of them return the whole result, which does not depend on their number.

    Args:
        attributions: by the name of their row; see :func:`make_attributions`.
        samples: a list or dataset of :class:`Sample`.
        tolerance: pixels; a maximum is a hit inside the frame's box, or less than this away.
        device: where the inputs are moved; by default they stay.
        checkpoint: a folder that keeps each sample's scores as soon as they are computed. A run
            that was stopped resumes from there, with the same result.
        progress: show a progress bar.
        bootstrap: of the confidence intervals; see :class:`Bootstrap`.
        faithfulness: names of :data:`FAITHFULNESS`, or a :class:`Faithfulness` for other options.
            Each score takes many forward passes per map; by default none is computed.

    Raises:
        ValueError: for samples, maps and options that do not fit, and for the checkpoint of
            another run.

    >>> from captum_3dcam.evaluation import Sample
    >>> class FirstRow:
    ...     def attribute(self, inputs, target=None):
    ...         return torch.eye(4)[:, :1].expand(1, 1, 4, 4)
    >>> top_half = Sample(torch.zeros(3, 4, 4), 0, torch.tensor([[0.0, 0.0, 4.0, 2.0]]))
    >>> print(evaluate({"first row": FirstRow()}, [top_half]).table(["energy", "hit"]))
    | | energy | hit |
    |---|---|---|
    | first row | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] |
    | chance | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    | whole frame | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    | centre box | 0.500 [0.500, 0.500] | 0.500 [0.500, 0.500] |
    """
    _check(attributions, samples, tolerance)
    bootstrap = bootstrap or Bootstrap()
    bootstrap.check(len(samples))
    if not isinstance(faithfulness, Faithfulness):
        faithfulness = Faithfulness(faithfulness)
    faithfulness.models(attributions)  # a missing one is an error before any work
    run = describe_run(attributions, samples, tolerance, faithfulness)
    distributed = dist.is_available() and dist.is_initialized()
    rank, processes = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    share = range(rank, len(samples), processes)
    with open_checkpoint(checkpoint, run, rank) as (finished, append):
        records = {index: finished[index] for index in share if index in finished}
        bar = tqdm(
            [index for index in share if index not in records],
            "evaluating" if processes == 1 else f"evaluating, 1 of {processes} processes",
            total=len(share),
            initial=len(records),
            disable=not progress or rank > 0,
        )
        for index in bar:
            records[index] = score_sample(
                attributions, samples[index], index, tolerance, device, faithfulness
            )
            append(index, records[index])
    if distributed:
        parts: list[Any] = [None] * processes
        dist.all_gather_object(parts, records)
        records = dict(ChainMap(*parts))
    scores = {}
    for row in (*attributions, *BASELINES):
        columns = zip(*(records[index][row] for index in range(len(samples))), strict=True)
        scores[row] = Scores(*map(np.stack, columns))
    return Evaluation(scores, bootstrap, run)


def _check(attributions: Mapping[str, Attribution], samples: Samples, tolerance: float) -> None:
    if not isinstance(attributions, Mapping):
        raise TypeError(
            "attributions: expected a dict of attributions by name, as from make_attributions(); "
            f"received {describe(attributions)}."
        )
    reserved = [name for name in BASELINES if name in attributions]
    if reserved:
        raise ValueError(f"{reserved[0]!r} is the name of a baseline. Rename the attribution.")
    if not len(samples):
        raise ValueError("There are no samples to evaluate on.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance!r}: expected a distance in pixels, 0 or more.")
