"""Screenshots of the viewer and the gallery for the docs, on a desktop and a phone.

The networks are those of the examples: EfficientNet-Lite0 on a photograph, TransNetV2 on a video
with cuts, and the classifier of synthetic scans. They need the extra demo, and Chromium.

    python studies/viewer_screenshots.py --output docs/images
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import skimage.data
import torch
from PIL import Image
from torch import Tensor, nn

from _arguments import make_parser
from _browser import NoBrowserError, open_browser
from captum_3dcam import Layer, explain_many
from captum_3dcam.explanation import Explanation, Windows, explain
from captum_3dcam.io import Sampling
from captum_3dcam.models import Preprocessing
from trained_networks import bikes, efficientnet, transnet, volume_net

SIZES = {"desktop": (800, 600), "phone": (390, 700)}
_MAX_BYTES = 240_000


class CutDetector(nn.Module):
    """(N, 3, T, 27, 48) RGB in [0, 255] -> (N, 2) logits: no cut, and a cut in the clip."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = transnet.load_transnet()

    def forward(self, clip: Tensor) -> Tensor:
        cut = self.frames(clip.movedim(1, -1).round().byte()).logsumexp(dim=1)
        return torch.stack([torch.zeros_like(cut), cut], dim=1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--output", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    makers = {"image": _explain_image, "video": _explain_video, "volume": _explain_volume}
    try:
        with open_browser() as browser, TemporaryDirectory() as folder:
            for name, make in makers.items():
                path = Path(folder) / f"{name}.html"
                path.write_text(make().html(), encoding="utf-8")
                stem = options.output / f"viewer_{name}"
                _take(browser, path, ".c3d-bar .c3d-ticks span", stem)
            gallery = _explain_photographs(Path(folder))
            _take(browser, gallery, "li img", options.output / "gallery")
    except NoBrowserError as error:
        sys.exit(str(error))
    return 0


def _take(browser: Any, path: Path, selector: str, stem: Path) -> None:
    """Screenshots of a page, once it has what is selected."""
    for device, (width, height) in SIZES.items():
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(path.as_uri())
        page.wait_for_selector(selector)
        page.wait_for_timeout(300)
        image = stem.with_name(f"{stem.name}_{device}.png")
        _save(Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB"), image)
        print(f"{image}: {image.stat().st_size:,} bytes")
        page.close()


def _explain_photographs(folder: Path) -> Path:
    """The gallery of the photographs that scikit-image ships."""
    names = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "rocket", "coins")
    rows = []
    for name in names:
        pixels = getattr(skimage.data, name)()
        path = folder / "photographs" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).convert("RGB").save(path)
        rows.append({"path": path, "group": "grey" if pixels.ndim == 2 else "colour"})
    layers = [Layer(name, calls="last") for name in efficientnet.LAYERS]
    explain_many(
        efficientnet.load_efficientnet(),
        rows,
        folder / "results",
        layers=layers,
        preprocessing=Preprocessing(127 / 255, 128 / 255, size=256, crop=224),
        class_names=efficientnet.CLASS_NAMES,
    )
    return folder / "results" / "index.html"


def _save(image: Image.Image, path: Path) -> None:
    """As a PNG file, with a palette if it is a large one."""
    image.save(path, optimize=True)
    if path.stat().st_size > _MAX_BYTES:
        dither = Image.Dither.FLOYDSTEINBERG
        image.quantize(palette=image.quantize(), dither=dither).save(path, optimize=True)


def _explain_image() -> Explanation:
    network = efficientnet.load_efficientnet()
    return explain(
        network,
        efficientnet.crop(efficientnet.demo_photographs()["chelsea"]),
        "top3",
        layers=[Layer(name, calls="last") for name in efficientnet.LAYERS],
        compare=["GradCAM", "Counterfactual"],
        per_layer=True,
        preprocessing=Preprocessing(127 / 255, 128 / 255),
        class_names=efficientnet.CLASS_NAMES,
    )


def _explain_video() -> Explanation:
    return explain(
        CutDetector().eval(),
        bikes.demo_video(),
        "cut",
        layers=[f"frames.{name}" for name in transnet.LAYERS],
        compare=["GradCAM", "Counterfactual"],
        preprocessing=Preprocessing(std=1 / 255, size=transnet.FRAME_SIZE),
        class_names=["no cut", "cut"],
        sampling=Sampling(end=4.0),
        windows=Windows(transnet.CLIP_LENGTH, boundaries="none"),
    )


def _explain_volume() -> Explanation:
    return explain(
        volume_net.train(),
        volume_net.make_scan(1).volume,
        "top3",
        layers=volume_net.LAYERS,
        compare=["GradCAM", "Counterfactual"],
        per_layer=True,
        class_names=volume_net.CLASSES,
    )


if __name__ == "__main__":
    sys.exit(main())
