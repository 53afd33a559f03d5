"""Videos decoded with PyAV: every frame at its own time, upright, with square pixels."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from captum_3dcam._files import (
    BYTES_PER_PIXEL,
    MAX_BYTES_VARIABLE,
    check_size,
    import_extra,
    max_bytes,
    wrap_read_errors,
)
from captum_3dcam._validation import warn
from captum_3dcam.io._frame_geometry import FrameConverter, upright_size
from captum_3dcam.io._frame_source import Pixels, Size, TimedFrame
from captum_3dcam.io._video_damage import Damage

# Only containers of a single file: a playlist could refer to other files, or to the network.
_CONTAINERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,ogg,asf,gif,apng,ivf,mxf,dv,nut,rm"
)
_LONG_JUMP = 1.0  # seconds back: the timestamps start anew; less is disorder
_MIN_STEP = 1e-3  # seconds, after a frame whose timestamp is no later
_KNOWS_DURATION = ("matroska,webm", "flv")
# Where each packet is a frame, shown at the packet's time.
_PAIRED_CODECS = ("h264", "hevc")
_PAIRED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")
_HAS_DURATIONS = ("gif", "apng")  # of every frame, as those that count their frames
_DEFAULT_RATE = 25  # of a file without any rate, as FFmpeg's


@dataclass
class DecodedVideo:
    """A video file; each pass opens it anew."""

    path: Path
    size: Size
    frame_count: int | None
    damage: str | None = None
    """What a pass has shown to be missing, and where."""

    @classmethod
    def open(cls, path: Path) -> "DecodedVideo":
        """Read the header and the first frame."""
        with wrap_read_errors(path, "a video"), _open(path) as container:
            stream = _video_stream(container)
            _check_frame_size(path, stream.width, stream.height)
            first = next(_Packets(container, Damage()).decode(), None)
            if first is None:
                raise ValueError("it has no frames that can be decoded.")
            size = upright_size(first, _aspect(stream))
            return cls(path, size, max(stream.frames, 0) or None)

    @cached_property
    def fps(self) -> float:
        """The mean rate by the timestamps of the packets: headers may be wrong."""
        with wrap_read_errors(self.path, "a video"), _open(self.path) as container:
            stream = _video_stream(container)
            packets = container.demux(stream)
            stamps = {p.dts if p.pts is None else p.pts for p in packets if p.size} - {None}
            if len(stamps) > 1:
                return float((len(stamps) - 1) / ((max(stamps) - min(stamps)) * stream.time_base))
            return float(_nominal_rate(stream))

    def frames(self) -> Iterator[TimedFrame]:
        """Decode the file; warn after the first pass if frames are missing or damaged."""
        with wrap_read_errors(self.path, "a video"), _open(self.path) as container:
            stream, damage = _video_stream(container), Damage()
            packets = _Packets(container, damage)
            clock = _Clock(packets)
            converter = FrameConverter(_aspect(stream))
            for frame in packets.decode():
                start, duration = clock.next(frame), clock.duration()
                damage.add_frame(start, start + duration, frame.is_corrupt, frame.key_frame)
                yield TimedFrame(start, duration, partial(self._pixels, converter, frame))
            damage.add_end(clock.expected_end(container, stream), stream.frames - packets.count)
        if self.damage is None and (description := damage.describe()):
            self.damage = description
            warn(
                f"{self.path.name!r} is truncated or damaged: {description}. The other frames keep "
                "their own times."
            )

    def _pixels(self, converter: FrameConverter, frame: Any, size: Size) -> Pixels:
        with wrap_read_errors(self.path, "a video"):
            return converter.to_rgb(frame, size)


def import_av() -> Any:
    return import_extra("av", "Reading video needs PyAV", "video")


def _open(path: Path) -> Any:
    # The maximum holds for the frames that FFmpeg decodes to complete the header.
    options = {"format_whitelist": _CONTAINERS, "max_pixels": str(_max_pixels())}
    # The absolute path, because FFmpeg may take the start of a relative one for a protocol.
    return import_av().open(str(path.absolute()), options=options)


def _video_stream(container: Any) -> Any:
    # A cover image is a video stream of its own.
    streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not streams:
        raise ValueError("it has no video stream.")
    return streams[0]


def _check_frame_size(path: Path, width: int, height: int) -> None:
    if not width * height:  # FFmpeg knows no size, or refuses it
        raise ValueError(
            f"its header has no size of frames, or one above {_max_pixels():,} pixels. To allow "
            f"more, set the environment variable {MAX_BYTES_VARIABLE}."
        )
    check_size(path, BYTES_PER_PIXEL * width * height, f"frames of {width} x {height} pixels")


def _max_pixels() -> int:
    """FFmpeg's maximum for a frame, whose size may change within a video.

    It is twice that of the header, because FFmpeg counts the padding of frames.
    """
    return min(2 * max_bytes() // BYTES_PER_PIXEL, 2**31 - 1)


class _Packets:
    """The packets of a video stream, decoded one by one, also after damaged ones."""

    def __init__(self, container: Any, damage: Damage) -> None:
        self.stream = _video_stream(container)
        self.stream.codec_context.options = {"max_pixels": str(_max_pixels())}
        self.count = 0
        self.last_duration = 0
        """Of the frame with the highest timestamp, in units of the stream; 0 if unknown."""
        name = container.format.name
        self.has_durations = self.stream.frames > 0 or name in _HAS_DURATIONS
        self.origin = float((container.start_time or 0) / 1e6)
        """The time in seconds from which the ffmpeg command counts."""
        self.is_avi = name == "avi"
        self.first_dts: int | None = None
        self._damage = damage
        self._packets = container.demux(self.stream)
        self._highest = -math.inf
        codec = self.stream.codec_context.name
        self._is_paired = codec in _PAIRED_CODECS and name in _PAIRED_CONTAINERS
        self._pending: set[int] = set()
        """Timestamps of packets whose frames have not come yet."""

    def decode(self) -> Iterator[Any]:
        invalid = import_av().error.InvalidDataError
        while packet := self._next(invalid):
            try:
                for frame in packet.decode():
                    self._pending.discard(frame.pts)
                    yield frame
            except invalid:  # noqa: PERF203, decoding takes much longer
                self._damage.is_suspect = True
                if packet.pts not in self._pending:
                    self._lose(packet.dts if packet.pts is None else packet.pts)
        for stamp in sorted(self._pending):
            self._lose(stamp)

    def _next(self, invalid: type[Exception]) -> Any:
        try:
            packet = next(self._packets, None)
        except invalid:  # what follows cannot be read either
            self._lose(None)
            return None
        if packet is not None and packet.size:
            self.count += 1
            self.first_dts = packet.dts if self.count == 1 else self.first_dts
            if packet.pts is not None and packet.pts >= self._highest:
                self._highest, self.last_duration = packet.pts, packet.duration or 0
            if self._is_paired and packet.pts is not None and not packet.is_discard:
                self._pending.add(packet.pts)
        return packet

    def _lose(self, stamp: int | None) -> None:
        unit = self.stream.time_base
        self._damage.add_lost(None if stamp is None else float(stamp * unit) - self.origin)


def _aspect(stream: Any) -> Fraction:
    """The width of a pixel divided by its height."""
    return stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)


def _nominal_rate(stream: Any) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(_DEFAULT_RATE)


class _Clock:
    """The time of each frame, from the start of the container, as the ffmpeg command has it.

    The timestamp is FFmpeg's best effort: that for presentation, or that for decoding where the
    former is missing or has been in disorder more often; but see :meth:`_in_order`. Without any, a
    frame follows the one before it after the duration of that. Times ascend strictly: after a jump
    back by more than a second, as where recordings are joined, all that follows is moved; a frame
    that is less late is shown right after the one before it.
    """

    def __init__(self, packets: _Packets) -> None:
        self._packets, self._unit = packets, packets.stream.time_base
        self._step = float(1 / _nominal_rate(packets.stream))
        self._faults = {"pts": 0, "dts": 0}
        self._last: dict[str, int] = {}
        self._moved = 0.0
        self._delay = 0
        self._previous: float | None = None

    def next(self, frame: Any) -> float:
        """When the next frame is shown, in seconds."""
        if self._packets.is_avi:
            stamp = self._in_order(frame.dts)
        else:
            stamp = self._best_effort(frame.pts, frame.dts)
        if self._previous is None:
            self._previous = 0.0 if stamp is None else self._seconds(stamp)
            return self._previous
        following = self._previous + self._step
        time = following if stamp is None else self._seconds(stamp) + self._moved
        if time < self._previous - _LONG_JUMP:
            self._moved += following - time
            time = following
        if time > self._previous:
            self._step = time - self._previous
        else:
            time = self._previous + min(_MIN_STEP, self._step / 2)
        self._previous = time
        return time

    def duration(self) -> float:
        """Of the latest frame, as if it were the last: the header's, or that of the one before."""
        if self._packets.has_durations and self._packets.last_duration:
            return float(self._packets.last_duration * self._unit)
        return self._step

    def expected_end(self, container: Any, stream: Any) -> float | None:
        """The end of the last frame by the header, in seconds; None if it does not know."""
        start = (container.start_time or 0) / 1e6
        if stream.frames and self._packets.is_avi:  # FFmpeg's duration follows the file's size
            return float(stream.frames * self._unit)
        if stream.frames and stream.duration:
            return float((stream.duration + (stream.start_time or 0)) * self._unit) - start
        if container.format.name not in _KNOWS_DURATION:
            return None
        if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", "")):
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds - start
        alone = len(container.streams) == 1
        return container.duration / 1e6 if container.duration and alone else None

    def _seconds(self, stamp: int) -> float:
        return float(stamp * self._unit) - self._packets.origin

    def _in_order(self, dts: int | None) -> int | None:
        """The timestamp of a frame of an AVI, which stores none for presentation.

        The n-th frame is shown at the time of the n-th packet: that of the packet with which it
        came, less the packets by which the first frame came late.
        """
        if dts is None:
            return None
        if self._previous is None:
            self._delay = dts - (self._packets.first_dts or 0)
        return dts - self._delay

    def _best_effort(self, pts: int | None, dts: int | None) -> int | None:
        for name, stamp in (("pts", pts), ("dts", dts)):
            if stamp is not None:
                self._faults[name] += stamp <= self._last.get(name, stamp - 1)
                self._last[name] = stamp
        if pts is not None and (dts is None or self._faults["pts"] <= self._faults["dts"]):
            return pts
        return pts if dts is None else dts
