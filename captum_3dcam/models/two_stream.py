"""Two-stream networks: what is seen, and how it moves."""

from torch import Tensor, nn

from captum_3dcam._validation import describe


class TwoStream(nn.Module):
    """The mean of the logits of two networks, one of RGB frames and one of optical flow.

    Late fusion as in Simonyan and Zisserman (arXiv 1406.2199) and in I3D (arXiv 1705.07750), whose
    sum of logits has the same arg-max. The model takes both inputs, so that the classes of this
    package take a tuple; a map lies over the first one. Layers of either stream can be explained,
    alone or together: their names begin with ``rgb.`` and ``flow.``.

    Args:
        rgb: a network whose output is logits (N, classes).
        flow: one of the same classes.

    >>> import torch
    >>> from captum_3dcam import LayerwiseGradCAM
    >>> streams = [nn.Sequential(nn.Conv3d(c, 4, 3), nn.ReLU(), nn.Flatten()) for c in (3, 2)]
    >>> model = TwoStream(*streams)
    >>> clips = torch.rand(2, 3, 8, 16, 16), torch.rand(2, 2, 8, 16, 16)
    >>> LayerwiseGradCAM(model, "flow.1").attribute(clips).shape
    torch.Size([2, 1, 8, 16, 16])
    """

    def __init__(self, rgb: nn.Module, flow: nn.Module) -> None:
        super().__init__()
        self.rgb, self.flow = rgb, flow

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        """Compute the logits (N, classes) of clips and their flow, each as its stream takes them.

        Raises ValueError if the streams' logits differ in shape.
        """
        appearance, motion = self.rgb(rgb), self.flow(flow)
        if appearance.shape != motion.shape:
            raise ValueError(
                "Expected logits of one shape from both streams; received "
                f"{describe(appearance)} for RGB and {describe(motion)} for flow. Build both for "
                "the same number of classes, and pass as many clips as flows."
            )
        mean: Tensor = (appearance + motion) / 2
        return mean
