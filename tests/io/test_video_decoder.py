"""The time of each frame, where what is shown lies, and what is missing from damaged files."""

import struct
import subprocess
import warnings
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from captum_3dcam.io import FrameTimes, input_kind, open_video, read_video, write_video
from captum_3dcam.io._video_damage import Damage
from captum_3dcam.io._video_decoder import _Clock, _Packets
from video_formats import ffmpeg_command

av = pytest.importorskip("av")
Disposition = pytest.importorskip("av.stream").Disposition

MILLISECOND = Fraction(1, 1000)
RAMP = np.repeat(5 * np.arange(40, dtype=np.uint8), 32 * 48 * 3).reshape(40, 32, 48, 3)


def write_at(path, times, codec="libx264", aspect=None, **options):
    """Frames of 32 x 48 at these times in ms, each with another grey value."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame, time in zip(RAMP, times, strict=False):
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            image.pts, image.time_base = time, MILLISECOND
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------------ times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2", "preset": "medium"}])
def test_frames_of_a_variable_rate_have_their_own_times(tmp_path, name, options):
    times = np.concatenate([40 * np.arange(20), 800 + 400 * np.arange(20)]).tolist()
    path = write_at(tmp_path / name, times, **options)
    video = read_video(path)
    np.testing.assert_allclose(video.times.edges[:-1], np.array(times) / 1000, atol=2e-3)
    np.testing.assert_allclose(video.frames.mean(axis=(1, 2, 3)), 5 * np.arange(40), atol=4)
    assert video.fps == pytest.approx(40 / 8.8, rel=0.06)
    # Before the first iteration: from the timestamps of the packets.
    assert open_video(path).fps == pytest.approx(40 / 8.8, rel=0.06)


def test_times_count_from_the_start_of_the_container(tmp_path):
    path = write_at(tmp_path / "late.ts", [5000 + 40 * t for t in range(10)])
    edges = read_video(path).times.edges
    np.testing.assert_allclose(edges, 0.04 * np.arange(11), atol=1e-4)


def clock(stamps, rate=25, is_avi=False):
    """The times of frames with these (pts, dts), in ms."""
    stream = SimpleNamespace(time_base=MILLISECOND, average_rate=Fraction(rate), guessed_rate=None)
    packets = SimpleNamespace(stream=stream, origin=0.0, is_avi=is_avi, first_dts=0)
    times = _Clock(packets)
    return [round(times.next(SimpleNamespace(pts=p, dts=d)), 6) for p, d in stamps]


STAMPS = {
    "presentation": ([(0, 0), (80, 40), (90, 80)], [0, 0.08, 0.09]),
    "none": ([(None, None)] * 3, [0, 0.04, 0.08]),
    "none after some": ([(100, None), (300, None), (None, None)], [0.1, 0.3, 0.5]),
    "decoding alone": ([(None, 40), (None, 80), (None, 120)], [0.04, 0.08, 0.12]),
    # FFmpeg's rule: those with fewer faults, from the first fault on.
    "faulty presentation": (
        [(40, 0), (80, 40), (40, 80), (60, 120), (50, 160)],
        [0.04, 0.08, 0.081, 0.12, 0.16],
    ),
    "absurd": ([(2**58, 2**58), (2**58 + 40, None), (None, 2**58 + 80)], [0, 0.04, 0.08]),
    "equal": ([(0, None), (40, None), (40, None), (80, None)], [0, 0.04, 0.041, 0.08]),
    "joined recordings": (
        [(5000, None), (5040, None), (0, None), (40, None)], [5, 5.04, 5.08, 5.12],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STAMPS)
def test_missing_and_disordered_timestamps(name):
    stamps, expected = STAMPS[name]
    assert clock(stamps) == pytest.approx(expected)


def test_frames_of_an_avi_are_in_the_order_of_its_packets():
    stamps = [(1, 2), (2, 3), (5, 4), (4, 5), (6, None)]
    assert clock(stamps, rate=1000, is_avi=True) == pytest.approx([0, 0.001, 0.002, 0.003, 0.004])


TINY = [*range(0, 800, 40), 761]  # the last frame 1 ms after the one before
HELD = [*range(0, 340, 17), 5000]
GAP = [*range(0, 800, 40), *range(5800, 6600, 40)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("times", [TINY, HELD, GAP], ids=["tiny", "held", "gap"])
@pytest.mark.parametrize("bf", ["0", "2"])
@pytest.mark.filterwarnings("error")
def test_the_last_frame_of_a_variable_rate(tmp_path, suffix, times, bf):
    video = open_video(write_at(tmp_path / f"a.{suffix}", times, bf=bf))
    assert len(list(video)) == len(times)
    assert video.damage is None
    np.testing.assert_allclose(video.times.edges[:-1], np.array(times) / 1000, atol=2e-3)
    assert 0.01 <= video.times.edges[-1] - video.times.edges[-2] <= 0.05


def test_the_last_frame_lasts_to_the_end_by_the_header(tmp_path):
    edges = FrameTimes([0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 3.0])
    write_video(RAMP[:6], tmp_path / "held.mp4", edges)
    np.testing.assert_allclose(
        read_video(tmp_path / "held.mp4").times.edges, edges.edges, atol=1e-4
    )


# --------------------------------------------------------------------------------- streams


def two_streams(path, dispositions, codecs=("mpeg4", "mpeg4")):
    """Streams of 48 x 32 and of 96 x 64 pixels."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=25) for codec in codecs]
        for scale, stream, disposition in zip((1, 2), streams, dispositions, strict=True):
            stream.width, stream.height = 48 * scale, 32 * scale
            stream.pix_fmt = "yuvj420p" if stream.codec.name == "mjpeg" else "yuv420p"
            stream.disposition = getattr(Disposition, disposition)
        for scale, stream in zip((1, 2), streams, strict=True):
            count = 1 if stream.codec.name == "mjpeg" else 10
            for frame in RAMP[:count].repeat(scale, 1).repeat(scale, 2):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(("default", "size"), [(0, (32, 48)), (1, (64, 96))])
def test_the_default_stream_is_read(tmp_path, default, size):
    dispositions = ["original", "original"]
    dispositions[default] = "default"
    path = two_streams(tmp_path / "two.mkv", dispositions)
    message = (
        f"'two.mkv' has 2 video streams: the one of {size[1]} x {size[0]} pixels "
        rf"\(number {default} of the file\) is read"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        video = read_video(path)
    assert video.frames.shape == (10, *size, 3)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert input_kind(path) == "video"


@pytest.mark.filterwarnings("error")
def test_a_cover_is_no_stream_to_choose(tmp_path):
    path = two_streams(tmp_path / "cover.mp4", ["default", "attached_pic"], ("mpeg4", "mjpeg"))
    assert read_video(path).frames.shape == (10, 32, 48, 3)


# --------------------------------------------------------------------------------- geometry


FLIPS = {
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "transposed at the other diagonal": ((0, -1, -1, 0), lambda x: x[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", FLIPS)
def test_mirrored_frames_are_shown_as_players_do(tmp_path, name):
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[:, :10, :14] = 255
    matrix, expected = FLIPS[name]
    path = tmp_path / "phone.mp4"
    write_video(frames, path, 25)
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    a, b, c, d = (65536 * value for value in matrix)
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path.write_bytes(data)
    shown = read_video(path).frames[1].astype(int)
    assert np.abs(shown - expected(frames[1])).mean() < 8


@pytest.mark.parametrize(
    ("aspect", "size"),
    [((2, 1), (32, 96)), ((2, 3), (32, 32)), ((160, 159), (32, 48)), ((64, 63), (32, 49))],
)
def test_pixels_are_square(tmp_path, aspect, size):
    path = write_at(tmp_path / "wide.mp4", range(0, 400, 40), aspect=Fraction(*aspect))
    assert open_video(path).size == size
    assert read_video(path).frames.shape == (10, *size, 3)
    assert open_video(path, (16, None)).size == (16, size[1] // 2)


def test_the_content_counts_and_not_the_suffix(tmp_path):
    write_video(RAMP, tmp_path / "a.mp4", 25)
    (tmp_path / "a.mp4").rename(tmp_path / "a.avi")
    assert len(read_video(tmp_path / "a.avi").frames) == 40


# ------------------------------------------------------------------------------------ damage


NOISE = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), dtype=np.uint8)


def encode(path, codec="mpeg4", **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in NOISE:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_complete_file_gives_no_warning(tmp_path):
    video = open_video(encode(tmp_path / "a.avi"))
    assert len(list(video)) == 40
    assert video.damage is None


def test_a_truncated_file_warns_once(tmp_path):
    path = encode(tmp_path / "cut.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = open_video(path)
    with pytest.warns(
        UserWarning, match=r"'cut.avi' is truncated or damaged: (\d+) of 40"
    ) as caught:
        frames = len(list(video))
    assert f"{40 - frames} of 40 frames are missing, from {frames / 25:.2f} to 1.60 s" in str(
        caught[0].message
    )
    assert f"{40 - frames} of 40 frames are missing" in video.damage
    assert len(list(video.resized((16, None)))) == frames  # no second warning


def test_a_hole_is_named_and_the_frames_after_it_keep_their_times(tmp_path):
    path = encode(tmp_path / "hole.mp4", "libx264", g="10", bf="0", sc_threshold="0")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[12:15]:
        data[position : position + size] = bytes([255]) * size
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="'hole.mp4' is truncated or damaged: 3 of 40") as caught:
        video = read_video(path)
    # The frames after the hole refer to those in it, until the key frame at 0.80 s.
    assert (
        "3 of 40 frames are missing, from 0.48 to 0.56 s; 5 frames may be damaged, from 0.60 to "
        "0.76 s. The other frames keep their own times." in str(caught[0].message)
    )
    expected = np.delete(0.04 * np.arange(41), [12, 13, 14])
    np.testing.assert_allclose(video.times.edges, expected, atol=1e-9)


def test_frames_that_the_decoder_leaves_out_without_an_error_are_named(tmp_path):
    path = write_at(tmp_path / "start.mp4", range(0, 1600, 40), g="10", bf="2", sc_threshold="0")
    with av.open(str(path)) as container:
        first = next(container.demux(video=0))
    data = bytearray(path.read_bytes())
    data[first.pos : first.pos + first.size] = bytes([255]) * first.size
    path.write_bytes(data)
    # The decoder reports the key frame, and waits for the next one.
    message = (
        "'start.mp4' is truncated or damaged: 10 of 40 frames are missing, from 0.00 to 0.36 s."
    )
    with pytest.warns(UserWarning, match=message):
        video = read_video(path)
    np.testing.assert_allclose(video.times.edges, 0.4 + 0.04 * np.arange(31), atol=1e-9)


def test_damaged_frames_are_named(tmp_path):
    path = encode(tmp_path / "scratched.avi", "mpeg4", g="10")
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    position, size = packets[20]
    data[position + size // 2 : position + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with pytest.warns(
        UserWarning, match="1 frame may be damaged, at 0.80 s. The other frames keep"
    ):
        assert len(read_video(path).frames) == 40


@pytest.mark.parametrize("kept", [13, 20, 33, 37])
@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.mxf", "mpeg2video")])
def test_all_frames_that_a_truncated_file_lacks_are_counted(tmp_path, kept, name, codec):
    path = encode(tmp_path / name, codec, bf="2", g="40")  # those kept are not all neighbours
    with av.open(str(path)) as container:
        positions = [packet.pos for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: positions[kept]])
    video = open_video(path)
    with pytest.warns(UserWarning, match="of 40 frames are missing"):
        frames = len(list(video))
    assert f"{40 - frames} of 40 frames are missing" in video.damage


def describe(starts, duration, expected, unread=None, lost=()):
    damage = Damage()
    for start in starts:
        damage.add_frame(start, False, False)
    for time in lost:
        damage.add_lost(time)
    damage.add_end(duration, expected, unread)
    return damage.describe()


EVEN = [0.04 * t for t in range(20)]
UNEVEN = [0.04 * t for t in range(8)] + [0.32 + 0.1 * t for t in range(12)]
HOLED = [t for t in EVEN if not 0.65 < t < 0.71]
REPORTS = {
    "whole": ((EVEN, 0.04, 0.8), None),
    "a gap in a whole file": (([*EVEN, 5.8], 0.04, 5.84), None),
    "an imprecise header": ((EVEN, 0.04, 0.89), None),
    "an imprecise header of a variable rate": ((UNEVEN, 0.1, 1.82), None),
    "an edit list": ((EVEN, 0.04, 9.0, 0), None),
    "no header": ((HOLED, 0.04, None), None),
    "an end": ((EVEN, 0.04, 1.6), "20 of 40 frames are missing, from 0.80 to 1.60 s"),
    "counted": ((EVEN, 0.04, 1.6, 17), "17 of 37 frames are missing, from 0.80 to 1.60 s"),
    "an end of a variable rate": (
        (UNEVEN, 0.1, 3.12), "about 16 of 36 frames are missing, from 1.52 to 3.12 s",
    ),
    "a hole before the end": (
        (HOLED, 0.04, 1.0), "6 of 25 frames are missing, at 0.68 s, from 0.80 to 1.00 s",
    ),
    "a known hole before the end": (
        (HOLED, 0.04, 1.0, None, [0.68, 0.84]),
        "6 of 25 frames are missing, at 0.68 s, from 0.80 to 1.00 s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTS)
def test_what_is_missing(name):
    arguments, expected = REPORTS[name]
    assert describe(*arguments) == expected


def test_an_error_of_one_packet_does_not_end_the_video(tmp_path):
    def fail():
        raise av.error.ArgumentError(22, "Invalid argument")

    with av.open(str(encode(tmp_path / "a.avi"))) as container:
        packets = _Packets(container, Damage())
        read = list(packets._packets)
        stream = packets.stream
        read[5] = SimpleNamespace(size=1, pts=5, dts=5, duration=1, decode=fail, stream=stream)
        packets._packets = iter(read)
        assert len(list(packets.decode())) == 39


def with_sound(path, video, audio, seconds=4.0, first=0):
    """100 frames of noise, from this one's time on, with noise as sound of this many seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(video, rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        sound = container.add_stream(audio, rate=44100)
        sound.bit_rate = 128_000
        samples = np.random.default_rng(0).normal(0, 0.2, (2, 1024)).astype(np.float32)
        played = 0
        for number in range(100):
            image = av.VideoFrame.from_ndarray(NOISE[number % 40], format="rgb24")
            image.pts, image.time_base = first + number, Fraction(1, 25)
            container.mux(stream.encode(image))
            while played < min(seconds, (first + number) / 25) * 44100:
                part = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
                part.sample_rate, part.pts, played = 44100, played, played + 1024
                container.mux(sound.encode(part))
        container.mux(stream.encode())
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [("a.wmv", "wmv2", "wmav2"), ("a.flv", "flv", "aac"), ("h.flv", "libx264", "aac")],
)
def test_a_truncated_file_with_sound_lacks_its_end(tmp_path, name, video, audio):
    path = with_sound(tmp_path / name, video, audio)
    whole = open_video(path)
    assert len(list(whole)) == 100
    assert whole.damage is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = open_video(path)
    with pytest.warns(UserWarning, match="of 100 frames are missing"):
        count = len(list(cut))
    assert 30 < count < 70
    assert f"{100 - count} of 100 frames are missing" in cut.damage


def test_sound_may_end_before_the_video_does(tmp_path):
    video = open_video(with_sound(tmp_path / "a.flv", "flv", "aac", seconds=1.0))
    assert len(list(video)) == 100
    assert video.damage is None


def test_sound_may_start_before_the_video_does(tmp_path):
    video = open_video(with_sound(tmp_path / "a.wmv", "wmv2", "wmav2", first=60))
    assert len(list(video)) == 100
    assert video.damage is None


def test_invalid_times_are_named(tmp_path):
    if ffmpeg_command() is None:
        pytest.skip("needs the ffmpeg command")
    source = ["-f", "lavfi", "-i", "testsrc2=s=48x32:r=25:d=3", "-c:v", "libtheora"]
    whole, cut = tmp_path / "a.ogv", tmp_path / "cut.ogv"
    copy = ["-ss", "1.03", "-i", whole, "-c", "copy"]
    for options in ([*source, whole], [*copy, cut]):
        subprocess.run([ffmpeg_command(), "-v", "error", *options], check=True)
    video = open_video(cut)
    with pytest.warns(UserWarning, match=r"'cut.ogv' is .*frames have an invalid time \(shown one"):
        count = len(list(video))
    assert count > 20
    assert video.times.edges[-1] == pytest.approx(3 - 1.03, abs=0.1)


def test_a_truncated_wmv_lacks_its_end(tmp_path):
    path = encode(tmp_path / "a.wmv", "wmv2")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = open_video(path)
    with pytest.warns(UserWarning, match=r"of 40 frames are missing, from .* to 1.60 s"):
        list(video)


def test_a_wmv_of_one_frame_is_complete(tmp_path):
    with av.open(str(tmp_path / "a.wmv"), "w") as container:
        stream = container.add_stream("wmv2", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(NOISE[0], format="rgb24")))
        container.mux(stream.encode())
    video = open_video(tmp_path / "a.wmv")
    assert video.times.edges.tolist() == pytest.approx([0.0, 0.04])
    assert video.damage is None


@pytest.mark.parametrize("count", [0, 2**30])
def test_an_avi_from_a_pipe_has_no_count(tmp_path, count):
    path = encode(tmp_path / "a.avi")
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 24), (b"strh", 40)):
        struct.pack_into("<I", data, data.index(tag) + offset, count)
    path.write_bytes(data)
    video = open_video(path)
    assert video.frame_count is None
    assert read_video(path).frames.shape == (40, 32, 48, 3)
    assert len(list(video)) == 40
    assert video.damage is None


def test_a_stream_that_comes_late_ends_the_file(tmp_path):
    with av.open(str(encode(tmp_path / "a.avi"))) as container:
        packets = _Packets(container, Damage())
        stored = list(packets.read())

        def late():
            yield from stored
            raise IndexError("list index out of range")

        packets._packets = late()
        assert len(list(packets.read())) == len(stored)


def test_a_file_that_was_cut_at_its_start_gives_a_clear_reason(tmp_path):
    data = with_sound(tmp_path / "a.flv", "flv", "aac").read_bytes()
    path, reasons = tmp_path / "cut.flv", set()
    for length in range(300, 700):
        path.write_bytes(data[:length])
        try:
            open_video(path)
        except ValueError as error:
            reasons.add(str(error).partition("cut.flv' cannot be read as a video: ")[2])
    assert reasons
    assert not [reason for reason in reasons if not reason or "object" in reason], reasons
