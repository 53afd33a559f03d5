"""Which method localises best, and does any beat a box that looks at nothing?

:func:`evaluate` scores the maps of attributions on samples with ground-truth boxes. Its result has
the mean of each score with a bootstrap interval. A run can be stopped and resumed, and shared among
processes. The metrics of :mod:`captum_3dcam.metrics` that accumulate keep sums; a bootstrap draws
samples, so this keeps the scores of each sample.

Three baselines are always scored too, of boxes that stay for the whole time:

- ``chance``: the mean over 100 boxes per sample, with corners drawn uniformly from the frame;
- ``whole frame``;
- ``centre box``: half of the frame's width and height.

Their boxes are scored as they are, without a threshold. Their energy and hit are those of a map
that is uniform inside the box, and of a point drawn from it: the share of the box's pixels, in
space and time, that are ground truth. For ``chance`` it is the share of all pixels. Average
precision and :class:`Faithfulness` are those of a map that is 1 inside the box and 0 outside; for
``chance`` the faithfulness is that of a random map, and the average precision the share of all
pixels. If the attributions explain several models, faithfulness is the mean over these.
"""

from captum_3dcam.evaluation._types import Attribution
from captum_3dcam.evaluation.annotated import AnnotatedSamples
from captum_3dcam.evaluation.bootstrap import Bootstrap, Interval
from captum_3dcam.evaluation.faithfulness import FAITHFULNESS, Faithfulness
from captum_3dcam.evaluation.results import COLUMNS, MAX_BOX_ACC_IOUS, Evaluation
from captum_3dcam.evaluation.runner import evaluate, make_attributions
from captum_3dcam.evaluation.samples import Sample, Samples, evenly_spaced, prepare_sample
from captum_3dcam.evaluation.scoring import BASELINES, IOU_THRESHOLDS, Scores

__all__ = [
    "BASELINES",
    "COLUMNS",
    "FAITHFULNESS",
    "IOU_THRESHOLDS",
    "MAX_BOX_ACC_IOUS",
    "AnnotatedSamples",
    "Attribution",
    "Bootstrap",
    "Evaluation",
    "Faithfulness",
    "Interval",
    "Sample",
    "Samples",
    "Scores",
    "evaluate",
    "evenly_spaced",
    "make_attributions",
    "prepare_sample",
]
