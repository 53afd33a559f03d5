"""The samples of a dataset that have a box."""

from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_3dcam.datasets import JHMDB, ILSVRCLocalization
from captum_3dcam.evaluation.samples import Sample, evenly_spaced, prepare_sample
from captum_3dcam.models import Preprocessing


class AnnotatedSamples:
    """The samples of a dataset of :mod:`captum_3dcam.datasets` that have a box, preprocessed.

    Args:
        limit: how many samples to take, evenly spaced; those without a box are then left out.
        predict: the model whose highest class is explained; None explains the label.
        progress: show a progress bar while boxes are looked for.

    Raises ValueError if no sample has a box.

    >>> from captum_3dcam.datasets import SyntheticActions
    >>> samples = AnnotatedSamples(SyntheticActions(4), Preprocessing(), limit=2)
    >>> len(samples), samples[0].inputs.shape[0]
    (2, 3)
    """

    def __init__(
        self,
        dataset: Any,
        preprocess: Preprocessing,
        limit: int | None = None,
        *,
        predict: nn.Module | None = None,
        progress: bool = False,
    ) -> None:
        self.dataset, self.preprocess, self.predict = dataset, preprocess, predict
        every = evenly_spaced(len(dataset), limit)
        indices = tqdm(every, desc="finding boxes", disable=not progress)
        self.indices = [index for index in indices if self._has_box(index)]
        if not self.indices:
            name = type(dataset).__name__
            raise ValueError(f"None of the {len(every)} samples of {name} has a box.")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        annotated = self.dataset[self.indices[index]]
        sample = prepare_sample(annotated, self.preprocess, target=0)
        return sample._replace(target=self._target(annotated, sample.inputs))

    def _target(self, annotated: Any, inputs: Tensor) -> int:
        if self.predict is not None:
            device = next((p.device for p in self.predict.parameters()), inputs.device)
            with torch.no_grad():
                return int(self.predict(inputs[None].to(device)).argmax())
        return int(annotated.labels[0] if hasattr(annotated, "labels") else annotated.label)

    def _has_box(self, index: int) -> bool:
        if isinstance(self.dataset, ILSVRCLocalization):  # without decoding the image
            return len(self.dataset.annotation(index).boxes) > 0
        if isinstance(self.dataset, JHMDB):
            return not self.dataset[index].boxes.isnan().any(dim=-1).all()
        return True  # the others leave out what has none
