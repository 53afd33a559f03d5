"""The result of an evaluation: means with intervals, a table, JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from captum_3dcam._validation import check_choice
from captum_3dcam.evaluation._types import Array
from captum_3dcam.evaluation.bootstrap import Bootstrap, Interval
from captum_3dcam.evaluation.scoring import IOU_THRESHOLDS, Scores
from captum_3dcam.metrics import protocol_name

MAX_BOX_ACC_IOUS = (0.3, 0.5, 0.7)
"""The δ over which MaxBoxAcc is the mean."""
COLUMNS = (
    "energy",
    "ap",
    "hit",
    "hit_intersect",
    "max_box_acc",
    "max_box_acc_per_sample",
    "tube_iou",
)
"""The columns of :meth:`Evaluation.table`, before those of faithfulness."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of :func:`~captum_3dcam.evaluation.evaluate`."""

    scores: dict[str, Scores]
    """The scores of each row, sample by sample; the baselines last."""
    bootstrap: Bootstrap
    run: dict[str, Any] = field(repr=False)
    """What was run: samples, attributions, digests of the models and of the first sample."""

    @cached_property
    def summary(self) -> dict[str, dict[str, Interval]]:
        """For each row and score its mean over samples and the interval of the mean.

        ``energy``, ``hit``, ``hit_intersect``, ``ap``: see :class:`Scores`.
        ``box_acc@δ``: the mean share of frames whose box has IoU >= δ. ``max_box_acc``: its mean
        over the δ of :data:`MAX_BOX_ACC_IOUS`. ``tube_iou``: the mean IoU of tubes. These are at
        the threshold τ that is best for all samples together; with ``_per_sample`` each sample has
        its own best threshold, which is never lower and not comparable. Each resample of the
        bootstrap chooses its own threshold. All these are in [0, 1]. Names of :data:`FAITHFULNESS`
        are there if they were requested.
        """
        samples = len(next(iter(self.scores.values())).energy)
        once, resampled = np.ones((1, samples)), self.bootstrap.counts(samples)
        summary = {}
        for row, scores in self.scores.items():
            values, draws = (
                _weighted_means(scores, counts, self.faithfulness) for counts in (once, resampled)
            )
            ends = np.quantile(list(draws.values()), self.bootstrap.quantiles(), axis=1).T.tolist()
            summary[row] = {
                name: Interval(value.item(), low, high)
                for (name, value), (low, high) in zip(values.items(), ends, strict=True)
            }
        return summary

    @property
    def faithfulness(self) -> tuple[str, ...]:
        """The names of the scores of faithfulness, in the order of :attr:`Scores.faithfulness`."""
        described = self.run["faithfulness"]
        return tuple(described["scores"]) if described else ()

    def table(self, columns: Sequence[str] | None = None) -> str:
        """A Markdown table with a row per attribution and baseline: value [low, high].

        The default columns are those of :data:`COLUMNS`, and then the scores of faithfulness.

        Raises ValueError for a column that is not in :attr:`summary`.
        """
        columns = (*COLUMNS, *self.faithfulness) if columns is None else columns
        for column in columns:
            check_choice("column", column, next(iter(self.summary.values())))
        lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row, intervals in self.summary.items():
            title = row.replace("|", "\\|")  # else it would start another cell
            lines.append(f"| {' | '.join([title, *(str(intervals[c]) for c in columns)])} |")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The summary, the protocols of the scores, and what was run."""
        result = {
            "rows": {
                row: {name: interval._asdict() for name, interval in intervals.items()}
                for row, intervals in self.summary.items()
            },
            "protocols": {
                "max_box_acc": protocol_name(MAX_BOX_ACC_IOUS, "dataset", clips=True),
                "max_box_acc_per_sample": protocol_name(MAX_BOX_ACC_IOUS, "per_sample", clips=True),
            },
            "bootstrap": vars(self.bootstrap),
            "run": self.run,
        }
        return json.dumps(result, indent=2, ensure_ascii=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file; missing folders are made."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(self.to_json(), encoding="utf-8")


def _weighted_means(scores: Scores, counts: Array, names: Sequence[str]) -> dict[str, Array]:
    """The mean of each score over samples (N,) that count several times: (R, N) -> (R,).

    ``names`` are those of the scores of faithfulness.
    """

    def mean(values: Array) -> Array:
        total = counts @ values.reshape(counts.shape[1], -1)
        return np.asarray(total / counts.sum(axis=1, keepdims=True))

    per_sample = ("energy", "hit", "hit_intersect", "ap")
    means = {name: mean(getattr(scores, name))[:, 0] for name in per_sample}
    over_thresholds = {
        **{f"box_acc@{delta}": scores.accuracy[:, d] for d, delta in enumerate(IOU_THRESHOLDS)},
        "tube_iou": scores.tube_iou,
    }
    for name, values in over_thresholds.items():
        means[name] = mean(values).max(axis=1)
        means[f"{name}_per_sample"] = mean(values.max(axis=1))[:, 0]
    for suffix in ("", "_per_sample"):
        box_acc = [means[f"box_acc@{delta}{suffix}"] for delta in MAX_BOX_ACC_IOUS]
        means[f"max_box_acc{suffix}"] = np.mean(box_acc, axis=0)
    means |= {name: mean(scores.faithfulness[:, f])[:, 0] for f, name in enumerate(names)}
    return means
