"""Read a video from a DICOM file: ultrasound, angiography, fluoroscopy."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from captum_3dcam._files import StrPath
from captum_3dcam._validation import check_positive
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io.dicom._objects import import_pydicom, reading
from captum_3dcam.io.dicom._pixels import decode_frames, read_dataset
from captum_3dcam.io.dicom.image import Display, check_frames, value_range
from captum_3dcam.io.dicom.series import select_object
from captum_3dcam.io.video import Video, read_video

_MPEG = "1.2.840.10008.1.2.4.10"  # MPEG-2, MPEG-4 and HEVC: 100 to 108
_RATES = ("RecommendedDisplayFrameRate", "CineRate")


def read_cine(path: StrPath, series: str | int | None = None, fps: float | None = None) -> Video:
    """Read the frames of ultrasound, angiography, fluoroscopy or a capture as a :class:`Video`.

    Values are shown as by :func:`read_dicom_image`, with one range for all frames. The times of the
    frames are those of FrameTimeVector or FrameTime, else at the rate of
    RecommendedDisplayFrameRate or CineRate. MPEG-2, MPEG-4 and HEVC are decoded with PyAV (extra
    ``video``) at the times of the stream.

    Args:
        path: a file, or a folder with one video.
        series: as of :func:`read_dicom_image`.
        fps: frames per second, for files that have neither times nor a rate.

    Raises what :func:`read_dicom_image` raises, ValueError without any rate, and for more than
    2 GiB of frames (unless ``CAPTUM_3DCAM_MAX_BYTES`` is set).
    """
    item = select_object(path, "video", series)
    with reading(item.path, "a DICOM video"):
        dataset = read_dataset(item.path)
        if dataset.file_meta.TransferSyntaxUID.startswith(_MPEG):
            return _read_mpeg(dataset, fps)
        check_frames(item, dataset)
        times = _frame_times(dataset, item.frames, fps)
        display = Display(dataset, *value_range(dataset, decode_frames(dataset)))
        frames = np.empty((item.frames, *display.size, 3), np.uint8)
        for frame, stored in zip(frames, decode_frames(dataset), strict=True):
            frame[:] = display.to_rgb(stored)
        return Video(frames, times.fps, times)


def _read_mpeg(dataset: Any, fps: float | None) -> Video:
    """The frames of a whole video file or stream, which is what the pixel data is."""
    stream = import_pydicom().encaps.generate_fragments(dataset.PixelData)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video"
        path.write_bytes(b"".join([*stream][1:]))  # the first is a table of offsets
        video = read_video(path)
    if fps is None:
        return video
    times = FrameTimes.from_rate(len(video.frames), check_positive("fps", fps))
    return Video(video.frames, times.fps, times)


def _frame_times(dataset: Any, count: int, fps: float | None) -> FrameTimes:
    if fps is not None:
        return FrameTimes.from_rate(count, check_positive("fps", fps))
    steps = dataset.get("FrameTimeVector")
    if steps is not None and len(steps) == count > 1:
        # In ms, each from the frame before; the first is 0. The last frame lasts as the one before.
        starts = np.cumsum(np.array([0, *steps[1:], steps[-1]], np.float64)) / 1000
        return FrameTimes(starts)
    if duration := float(dataset.get("FrameTime") or 0):
        return FrameTimes.from_rate(count, 1000 / duration)
    for name in _RATES:
        if rate := float(dataset.get(name) or 0):
            return FrameTimes.from_rate(count, rate)
    raise ValueError("it has no frame rate. Pass the frames per second: fps=, or --fps.")
