"""TensorBoard."""

from io import BytesIO
from typing import Any

from PIL import Image

from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation.exporters._shared import encode_overlay, import_library

_HEIGHT = 240  # of the frames in a GIF


def add_to_tensorboard(
    explanation: Explanation, writer: Any, tag: str, step: int | None = None
) -> None:
    """Add the figure of each sample, or of a video an animation of each class, to the images.

    Args:
        writer: a ``torch.utils.tensorboard.SummaryWriter``.
        tag: the images are ``tag/sample``, and of videos ``tag/sample/rank``.
        step: the step of the training, for the slider of TensorBoard.

    Raises ArgumentError for a video that was loaded without its frames.
    """
    for sample in range(len(explanation)):
        if explanation.kind != "video":
            writer.add_figure(f"{tag}/{sample}", explanation.figure(sample), step)
            continue
        for rank in range(explanation.attribution.shape[1]):
            overlay = encode_overlay(explanation[sample], rank, ".gif", _HEIGHT)
            _add_gif(writer, f"{tag}/{sample}/{rank}", overlay, step)


def _add_gif(writer: Any, tag: str, content: bytes, step: int | None) -> None:
    # SummaryWriter.add_video writes nothing without MoviePy, nor with its version 2, and has one
    # duration for all frames.
    proto = import_library("tensorboard.compat.proto.summary_pb2", "add_to_tensorboard")
    width, height = Image.open(BytesIO(content)).size
    image = proto.Summary.Image(
        height=height, width=width, colorspace=3, encoded_image_string=content
    )
    summary = proto.Summary(value=[proto.Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)
