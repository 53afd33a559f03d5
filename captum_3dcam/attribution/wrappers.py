"""Attributions made of a class activation map: Guided Grad-CAM, and the mean over augmentations."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from captum.attr import Attribution, GuidedBackprop
from captum.log import log_usage
from torch import Tensor, nn

from captum_3dcam._inputs import input_sizes, over_channels
from captum_3dcam._layerwise_cam import LayerwiseCAM
from captum_3dcam._model_state import preserved_state
from captum_3dcam._restoration import interruptible
from captum_3dcam._targets import pinned_target, select_output, select_scores
from captum_3dcam._validation import check_sequence, describe, warn

Augmentation = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""What is done to the inputs, and what undoes it on their map."""


class GuidedCAM(Attribution):  # type: ignore[misc]
    """Guided Grad-CAM of any class activation map: guided backpropagation times the map.

    (N, C, *S), signed, in the inputs' units of Captum's ``GuidedBackprop`` (Selvaraju et al.,
    2017, arXiv 1610.02391), which reads the ReLUs that are modules.

    >>> from captum_3dcam import LayerwiseGradCAM
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> cam = GuidedCAM(LayerwiseGradCAM(model, "1"))
    >>> cam.attribute(torch.rand(2, 1, 8, 8, 8)).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    def __init__(self, cam: LayerwiseCAM) -> None:
        """Raises TypeError for a map of another kind, or of a model that is no module."""
        _check_cam(cam)
        if not isinstance(cam.forward_func, nn.Module):
            raise TypeError(
                "GuidedCAM needs the ReLUs of a torch.nn.Module; the attribution's forward_func is "
                f"of type {type(cam.forward_func).__name__}."
            )
        super().__init__(cam.forward_func)
        self.cam = cam

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None
    ) -> Tensor:
        """The product (N, C, *S); ``target=None`` takes each sample's highest class.

        Raises TypeError for inputs that are not one tensor, and as the map's own ``attribute``.
        """
        _check_input(inputs)
        target = _pinned(self.cam, inputs, target, additional_forward_args)
        cam_map = self.cam.attribute(inputs, target, additional_forward_args)
        if not any(isinstance(module, nn.ReLU) for module in self.forward_func.modules()):
            warn(
                "The model has no ReLU modules, so that guided backpropagation is its plain "
                "gradient. Replace functional ReLUs by torch.nn.ReLU; GELU and SiLU have no guide."
            )
        scores = _Scores(self.forward_func, self.cam.output, target)
        with (
            preserved_state(self.forward_func, tensors=[inputs]),
            warnings.catch_warnings(),
            interruptible(),
        ):
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")  # it removes them
            leaf = inputs.detach().clone().requires_grad_()
            guided: Tensor = GuidedBackprop(scores).attribute(
                leaf, additional_forward_args=additional_forward_args
            )
        return guided.detach() * over_channels(cam_map[:, 0], inputs, self.cam.input_layout)


class AugmentedCAM(Attribution):  # type: ignore[misc]
    """The mean of a map over augmentations of the inputs, each undone on its map.

    By default the inputs and their mirror images along the last axis, each times 0.9, 1 and 1.1, as
    ``aug_smooth`` of pytorch-grad-cam. The class is that of the inputs themselves. For noise
    instead, put the attribution into Captum's ``NoiseTunnel``.

    >>> from captum_3dcam import LayerwiseGradCAM
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(6), nn.Flatten())
    >>> cam = AugmentedCAM(LayerwiseGradCAM(model, "1"))
    >>> cam.attribute(torch.rand(2, 1, 8, 8, 8)).shape
    torch.Size([2, 1, 8, 8, 8])
    """

    def __init__(
        self, cam: LayerwiseCAM, augmentations: Sequence[Augmentation] | None = None
    ) -> None:
        """Choose pairs of functions: one of the inputs, and one of their map that undoes it.

        Raises TypeError for anything else, and ValueError for none.
        """
        _check_cam(cam)
        super().__init__(cam.forward_func)
        self.cam = cam
        self.augmentations = _check_augmentations(
            _mirrored_and_scaled() if augmentations is None else augmentations
        )

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None
    ) -> Tensor:
        """The mean map (N, 1, *S) over all augmentations; their number times the cost of one.

        Raises TypeError for inputs that are not one tensor, ValueError for an augmentation that
        changes the shape of the map, and as the map's own ``attribute``.
        """
        _check_input(inputs)
        target = _pinned(self.cam, inputs, target, additional_forward_args)
        samples, size = input_sizes(inputs, self.cam.input_layout)
        total = torch.zeros(samples, 1, *size, device=inputs.device)
        for number, (augment, undo) in enumerate(self.augmentations):
            own = undo(self.cam.attribute(augment(inputs), target, additional_forward_args))
            if not isinstance(own, Tensor) or own.shape != total.shape:
                raise ValueError(
                    f"augmentations[{number}] gives {describe(own)} for a map of shape "
                    f"{tuple(total.shape)}: its second function is to undo the first."
                )
            total = total + own
        return total / len(self.augmentations)


def _mirrored_and_scaled(factors: Sequence[float] = (0.9, 1.0, 1.1)) -> list[Augmentation]:
    """The default augmentations: with and without mirroring the last axis, times each factor.

    >>> len(_mirrored_and_scaled())
    6
    """

    def mirror(x: Tensor) -> Tensor:
        return x.flip(-1)

    def keep(x: Tensor) -> Tensor:
        return x

    def scaled(change: Callable[[Tensor], Tensor], factor: float) -> Callable[[Tensor], Tensor]:
        return lambda x: change(x) * factor

    return [(scaled(change, factor), change) for change in (keep, mirror) for factor in factors]


class _Scores(nn.Module):
    """The model, with one score per sample for its output."""

    def __init__(self, model: nn.Module, output: Any, target: Any) -> None:
        super().__init__()
        self.model, self.output, self.target = model, output, target
        self.training = model.training  # train() would change the modules of the model too

    def forward(self, *inputs: Any) -> Tensor:
        return select_scores(select_output(self.model(*inputs), self.output), self.target)


def _pinned(cam: LayerwiseCAM, inputs: Tensor, target: Any, additional_forward_args: Any) -> Any:
    """The target; of what it leaves to the output, that of these inputs."""
    if target is not None and not hasattr(target, "pinned"):
        return target
    _, output = cam.attribute_with_output(inputs, target, additional_forward_args)
    return pinned_target(target, output)


def _check_cam(cam: Any) -> None:
    if not isinstance(cam, LayerwiseCAM):
        raise TypeError(
            "Expected a class activation map of captum_3dcam, as LayerwiseGradCAM(model, layers); "
            f"received {type(cam).__name__}."
        )


def _check_input(inputs: Any) -> None:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs must be one tensor (N, C, *S); received {type(inputs).__name__}.")


def _check_augmentations(augmentations: Any) -> list[Augmentation]:
    check_sequence("augmentations", augmentations, of="pairs of functions")
    for number, pair in enumerate(augmentations):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(map(callable, pair)):
            raise TypeError(
                f"augmentations[{number}] must be two functions, of the inputs and of their map; "
                f"received {describe(pair)}."
            )
    if not augmentations:
        raise ValueError("augmentations is empty. Pass at least one pair of functions.")
    return [tuple(pair) for pair in augmentations]
