"""Videos decoded with PyAV: every frame at its own time, upright, with square pixels."""

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
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
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,ogg,asf,ivf,mxf,dv,nut,rm,"
    "yuv4mpegpipe"
)
_LONG_JUMP = 1.0  # seconds back: the timestamps start anew; less is disorder
_MIN_STEP = 1e-3  # seconds, after a frame whose timestamp is no later
_KNOWS_DURATION = ("matroska,webm", "flv", "asf")
# Where each packet is a frame, shown at the packet's time.
_PAIRED_CODECS = ("h264", "hevc")
_PAIRED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")
_MAX_TIME = 1e10  # seconds: a timestamp beyond, as of an Ogg that was cut, is none
_ENDS_EARLY = 0.2  # seconds by which all streams end before the file's duration
_INTERLEAVED = 1.0  # seconds by which streams of a file that ends early end after one another
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_FIELDS = struct.Struct("<48xQ8xQI")  # duration in 100 ns, preroll in ms, flags
_MAX_ASF_HEADER = 2**16
_DEFAULT_RATE = 25  # of a file without any rate, as FFmpeg's
_MIN_DURATION = 1e-3  # seconds, of a last frame by the header
_MAX_ONLY = 1.0  # seconds, of an only frame by a header without a count
# Other durations of the last frame, in median distances of frames: packets may have that of a
# nominal rate, and a header the end of something else.
_MIN_LAST, _MAX_LAST = 0.25, 4.0


@dataclass
class DecodedVideo:
    """A video file; each pass opens it anew."""

    path: Path
    size: Size
    frame_count: int | None
    choice: str | None = None
    """Which of several video streams it is, for a warning."""
    damage: str | None = None
    """What a pass has shown to be missing, and where."""

    @classmethod
    def open(cls, path: Path) -> "DecodedVideo":
        """Read the header and the first frame."""
        with _opened(path) as container:
            stream = _video_stream(container)
            _check_frame_size(path, stream.width, stream.height)
            first = next(_Packets(container, Damage()).decode(), None)
            if first is None:
                raise ValueError("it has no frames that can be decoded.")
            size = upright_size(first, _aspect(stream))
            count = stream.frames if _header_count(container, stream) else 0
            return cls(path, size, max(count, 0) or None, _choice(container, stream))

    @cached_property
    def fps(self) -> float:
        """The mean rate by the timestamps of the packets: headers may be wrong."""
        with _opened(self.path) as container:
            stream = _video_stream(container)
            packets = _Packets(container, Damage()).read()
            stamps = {p.dts if p.pts is None else p.pts for p in packets if p.size} - {None}
            stamps = {stamp for stamp in stamps if abs(stamp * stream.time_base) < _MAX_TIME}
            if len(stamps) > 1:
                return float((len(stamps) - 1) / ((max(stamps) - min(stamps)) * stream.time_base))
            return float(_nominal_rate(stream))

    def frames(self) -> Iterator[TimedFrame]:
        """Decode the file; warn after the first pass if frames are missing or damaged."""
        with _opened(self.path) as container:
            stream, damage = _video_stream(container), Damage()
            packets = _Packets(container, damage)
            clock = _Clock(packets)
            converter = FrameConverter(_aspect(stream))
            waiting: tuple[float, Any] | None = None  # for the start of the next one
            for frame in packets.decode():
                start = clock.next(frame)
                damage.add_frame(start, frame.is_corrupt, frame.key_frame)
                if waiting:
                    yield self._timed(converter, *waiting, start)
                waiting = start, frame
            if waiting:
                expected, unread = _expected_end(container, packets), packets.unread
                duration = packets.last_duration(waiting[0], expected)
                damage.add_end(duration, expected, unread)
                damage.untimed = clock.untimed
                yield self._timed(converter, *waiting, waiting[0] + duration)
        if self.damage is None and (description := damage.describe()):
            self.damage = description
            warn(
                f"{self.path.name!r} is truncated or damaged: {description}. The other frames keep "
                "their own times."
            )

    def _timed(self, converter: FrameConverter, start: float, frame: Any, end: float) -> TimedFrame:
        return TimedFrame(start, end - start, partial(self._pixels, converter, frame))

    def _pixels(self, converter: FrameConverter, frame: Any, size: Size) -> Pixels:
        with _read_errors(self.path):
            return converter.to_rgb(frame, size)


def import_av() -> Any:
    return import_extra("av", "Reading video needs PyAV", "video")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with _read_errors(path), _open(path) as container:
        yield container


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """ValueErrors that name the file as it was passed: PyAV's have its absolute path."""
    with wrap_read_errors(path, "a video"):
        try:
            yield
        except _av_error() as error:
            raise ValueError(error.strerror) from error


def _av_error() -> Any:
    return import_av().error.FFmpegError


def _open(path: Path) -> Any:
    # The maximum holds for the frames that FFmpeg decodes to complete the header.
    options = {"format_whitelist": _CONTAINERS, "max_pixels": str(_max_pixels())}
    # The absolute path, because FFmpeg may take the start of a relative one for a protocol.
    return import_av().open(str(path.absolute()), options=options)


def _video_streams(container: Any) -> list[Any]:
    # A cover image is a video stream of its own; a truncated one may have no codec.
    streams = [s for s in container.streams.video if s.codec_context is not None]
    return [s for s in streams if not s.disposition & s.disposition.attached_pic]


def _video_stream(container: Any) -> Any:
    """The one that FFmpeg finds best, as players do: above all, a default one."""
    streams = _video_streams(container)
    if not streams:
        raise ValueError("it has no video stream.")
    best = container.streams.best("video")
    return next((s for s in streams if best is not None and s.index == best.index), streams[0])


def _choice(container: Any, stream: Any) -> str | None:
    streams = _video_streams(container)
    if len(streams) == 1:
        return None
    return (
        f"has {len(streams)} video streams: the one of {stream.width} x {stream.height} pixels "
        f"(number {stream.index} of the file) is read, as players show it. To read another one, "
        "copy it into a file of its own."
    )


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
        name = container.format.name
        origin = (container.start_time or 0) / 1e6
        self.origin = origin if abs(origin) < _MAX_TIME else 0.0
        """The time in seconds from which the ffmpeg command counts."""
        self.others_end = 0.0
        """Of the other streams so far, in seconds, where the header may have only that of all."""
        self.is_avi = name == "avi"
        self.first_dts: int | None = None
        self._count = 0
        self._counted = _header_count(container, self.stream)
        self._counts_frames = name == "mxf"
        self._damage = damage
        self._packets = container.demux(*([] if name in _KNOWS_DURATION else [self.stream]))
        self._highest = -math.inf
        self._last_duration = 0  # of the frame with the highest timestamp; 0 if unknown
        self._has_duplicates = False
        codec = self.stream.codec_context.name
        self._is_paired = codec in _PAIRED_CODECS and name in _PAIRED_CONTAINERS
        self._pending: set[int] = set()
        """Timestamps of packets whose frames have not come yet."""

    @property
    def unread(self) -> int | None:
        """How many more packets or frames than were read the header counts; None if it does not."""
        read = self._damage.count if self._counts_frames else self._count
        return self._counted - read if self._counted else None

    def last_duration(self, start: float, expected_end: float | None) -> float:
        """Of the last frame, which is shown at ``start``, in seconds.

        To the end by the header, if that counts all frames; else its packet's; else to the end by
        a header without a count; else the median distance of the frames.
        """
        rest = 0.0 if expected_end is None else expected_end - start
        if self.unread is not None and self.unread <= 0 and rest >= _MIN_DURATION:
            return rest
        own = float(self._last_duration * self.stream.time_base)
        step = self._damage.step
        if not step:
            if own > _MIN_DURATION:
                return own
            is_only = self.unread is None and _MIN_DURATION < rest <= _MAX_ONLY
            return rest if is_only else float(1 / _nominal_rate(self.stream))
        if own >= _MIN_LAST * step or self._has_duplicates:
            return own
        return rest if _MIN_LAST * step <= rest <= _MAX_LAST * step else step

    def decode(self) -> Iterator[Any]:
        error = _av_error()
        for packet in self.read():
            if not packet.size and not _is_flush(packet):
                continue
            try:
                for frame in packet.decode():
                    self._pending.discard(frame.pts)
                    yield frame
            except error:
                self._damage.is_suspect = True
                if packet.pts not in self._pending:
                    self._lose(packet.dts if packet.pts is None else packet.pts)
        for stamp in sorted(self._pending):
            self._lose(stamp)

    def read(self) -> Iterator[Any]:
        """The packets, without decoding them; the last one flushes the decoder."""
        error = _av_error()
        while True:
            try:
                packet = next(self._packets, None)
            except IndexError:  # PyAV at the end, if a stream came later than the header
                return
            except error:  # what follows cannot be read either
                self._lose(None)
                return
            if packet is None:
                return
            if packet.stream.index != self.stream.index:
                self._note_other(packet)
                continue
            if not _is_flush(packet):
                self._note(packet)
            yield packet

    def _note(self, packet: Any) -> None:
        self._count += 1
        self.first_dts = packet.dts if self._count == 1 else self.first_dts
        if not packet.size:  # the frame before is shown on
            self._has_duplicates = True
            self._last_duration += packet.duration or 0
        elif (
            packet.pts is not None
            and self._highest <= packet.pts < _MAX_TIME / self.stream.time_base
        ):
            self._highest, self._last_duration = packet.pts, packet.duration or 0
        if self._is_paired and packet.pts is not None and packet.size and not packet.is_discard:
            self._pending.add(packet.pts)

    def _note_other(self, packet: Any) -> None:
        if packet.pts is not None:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base
            self.others_end = max(self.others_end, float(end) - self.origin)

    @property
    def end(self) -> float:
        """Of the frames so far, in seconds."""
        return self._damage.starts[-1] + self._damage.step

    def _lose(self, stamp: int | None) -> None:
        unit = self.stream.time_base
        self._damage.add_lost(None if stamp is None else float(stamp * unit) - self.origin)


def _is_flush(packet: Any) -> bool:
    return not packet.size and packet.pts is None and packet.dts is None


def _header_count(container: Any, stream: Any) -> int:
    """The number of frames by the header; 0 if unknown."""
    if container.format.name == "mxf":
        return int(stream.duration or 0)  # in frames
    # More than one in each byte: those of a header that was written before the frames.
    return int(stream.frames) if stream.frames <= container.size else 0


def _expected_end(container: Any, packets: _Packets) -> float | None:
    """The end of the last frame by the header, in seconds; None if it does not know."""
    stream, start, name = packets.stream, packets.origin, container.format.name
    count = _header_count(container, stream)
    if count and name == "avi":  # FFmpeg's duration follows the size
        return float(count * stream.time_base)
    if count and stream.duration:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - start
    if name not in _KNOWS_DURATION:
        return None
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, tag.groups())
        return 3600 * hours + 60 * minutes + seconds - start
    duration = _asf_duration(container) if name == "asf" else (container.duration or 0) / 1e6
    if not duration:
        return None
    end = duration - max(start, 0)  # counted from 0, not from the first frame
    if len(container.streams) == 1:
        return end
    # That of the longest stream: it tells about this one only if the file ends before all of them.
    ends_early = end - max(packets.end, packets.others_end) > _ENDS_EARLY
    return end if ends_early and packets.others_end - packets.end <= _INTERLEAVED else None


def _asf_duration(container: Any) -> float:
    """By the header of a WMV; 0 if unknown.

    FFmpeg ignores it where the file is shorter than it says, and adds the start of a late stream.
    """
    with open(container.name, "rb") as file:
        properties = file.read(_MAX_ASF_HEADER).partition(_ASF_PROPERTIES)[2]
    if len(properties) < _ASF_FIELDS.size:
        return 0.0
    duration, preroll, flags = _ASF_FIELDS.unpack_from(properties)
    is_live = flags & 1  # written before the frames: without a duration
    return 0.0 if is_live else float(duration / 1e7 - preroll / 1e3)


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
        self.untimed = 0
        """How many frames have a timestamp that is none."""
        self._faults = {"pts": 0, "dts": 0}
        self._last: dict[str, int] = {}
        self._moved = 0.0
        self._delay = 0
        self._previous: float | None = None

    def next(self, frame: Any) -> float:
        """When the next frame is shown, in seconds."""
        pts, dts = self._known(frame.pts), self._known(frame.dts)
        self.untimed += (pts, dts) != (frame.pts, frame.dts)
        stamp = self._in_order(dts) if self._packets.is_avi else self._best_effort(pts, dts)
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

    def _known(self, stamp: int | None) -> int | None:
        return None if stamp is None or abs(stamp * self._unit) >= _MAX_TIME else stamp

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
