"""A long synthetic video as a stream: its peak memory, and when the map is high.

The recogniser of synthetic actions explains a video of any length, window by window, and nothing
but the temporal profile is kept. Measured are the peak of the memory above that of the model, how
often the windows within an action predict it, and how much of the map lies in the actions, beside
the share of the time that they take.

    python studies/evaluate_stream.py --scenes 9 --stride 16      # one minute
    python studies/evaluate_stream.py --scenes 90 --stride 16     # ten minutes
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _arguments import at_least, make_parser
from _memory import peak_resident_mib, return_freed_memory
from _report import table, write_report
from captum_3dcam import LayerwiseWhatWhereCAM, SlidingWindowCAM
from captum_3dcam.functional import temporal_profile
from captum_3dcam.sliding import Window, shot_boundaries
from trained_networks.action_net import LAYERS, load_action_net
from trained_networks.action_video import ActionSegment, LongActionVideo

TOLERANCE = 2  # frames of a pause that a window within an action may have at either end


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__)
    add, positive = parser.add_argument, at_least(1)
    add("--scenes", type=positive, default=9, help="of four actions, 7 s each (default: 9)")
    add("--size", type=positive, default=112, help="pixels a side (default: 112)")
    add("--stride", type=positive, default=8, help="frames from window to window (default: 8)")
    add("--batch-size", type=positive, default=4, help="windows at once (default: 4)")
    add("--threads", type=positive, help="of torch (default: its own choice)")
    add("--output", type=Path, default=Path("out"), help="folder to write to (default: out)")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    cam = LayerwiseWhatWhereCAM(load_action_net(), LAYERS)
    sliding = SlidingWindowCAM(cam, 16, options.stride, batch_size=options.batch_size)
    video = LongActionVideo(options.scenes, options.size)

    before = peak_resident_mib()
    boundaries = shot_boundaries(chunks(video))
    profile, windows = consume(sliding.stream(chunks(video), boundaries=boundaries))
    report = {
        "frames": len(profile),
        "minutes": len(profile) / video.fps / 60,
        "stride": options.stride,
        "peak_memory_mib": peak_resident_mib() - before,
        "boundaries": boundaries,
        **evaluate(profile, windows, video.segments),
    }
    shown = {name: value for name, value in report.items() if name != "boundaries"}
    text = table(list(shown), [[f"{value:.3g}" for value in shown.values()]])
    write_report(options.output, "stream", report, text)
    return report


def chunks(video: LongActionVideo) -> Iterator[Tensor]:
    """(3, t, H, W) in [0, 1]"""
    return (torch.from_numpy(frames).movedim(-1, 0) / 255 for frames in video.chunks(64))


def consume(parts: Iterable[Any]) -> tuple[list[float], list[Window]]:
    """The temporal profile and the windows of a stream, whose maps are not kept."""
    profile: list[float] = []
    windows: list[Window] = []
    for part in parts:
        profile += temporal_profile(part.attribution)[0].tolist()
        windows += part.windows
    return profile, windows


def evaluate(
    profile: Sequence[float], windows: Sequence[Window], segments: Sequence[ActionSegment]
) -> dict[str, float]:
    acting = torch.zeros(len(profile), dtype=torch.bool)
    correct = []
    for segment in segments:
        acting[segment.start : segment.end] = True
        correct += [
            window.predicted == segment.label
            for window in windows
            if segment.start - TOLERANCE <= window.start[0]
            and window.stop[0] <= segment.end + TOLERANCE
        ]
    values = torch.tensor(profile)
    return {
        "windows_within_an_action": len(correct),
        "accuracy": sum(correct) / len(correct) if correct else float("nan"),
        "share_of_map_in_actions": float(values[acting].sum() / values.sum()),
        "share_of_time_in_actions": float(acting.float().mean()),
    }


if __name__ == "__main__":
    return_freed_memory()
    main()
