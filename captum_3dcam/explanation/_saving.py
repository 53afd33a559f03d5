"""Write an explanation to a folder, and read it again."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_3dcam._errors import ArgumentError, argument_errors
from captum_3dcam._files import check_bytes, write_text
from captum_3dcam._validation import check_choice, check_integers, warn
from captum_3dcam.explanation import viewer
from captum_3dcam.explanation._content import viewer_content
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation._figures import draw
from captum_3dcam.explanation._identity import REPORT, identify
from captum_3dcam.explanation._overlay import write_overlay
from captum_3dcam.explanation._report import as_json, make_report, to_json
from captum_3dcam.explanation._result_folder import read_report, resolve_folder, writing
from captum_3dcam.explanation._thumbnail import THUMBNAIL, write_thumbnail
from captum_3dcam.frame_times import FrameTimes
from captum_3dcam.io import VideoFile, Volume, load_map, save_map, write_volume
from captum_3dcam.sliding import Window

OVERLAYS = ("mp4", "gif", "none")
_TITLES = {"layers": "Layers", "methods": "Methods"}
_DPI = 100
_TIME_ROUNDING = 1e-5  # seconds


def save(
    explanation: Explanation,
    folder: Path,
    overlay: str,
    command: str,
    progress: bool = False,
    *,
    figures: bool = True,
    page: bool = True,
    record: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Path]:
    """The paths of the files by their names; of several samples ``sample_0/figure`` and so on.

    Without ``figures``, which take longest, there is a small image; without ``page`` neither that
    nor ``report.html``. ``record`` is kept in ``report.json``.
    """
    with argument_errors():
        check_choice("overlay", overlay, OVERLAYS)
    if len(explanation) > 1:
        return {
            f"sample_{number}/{name}": path
            for number in range(len(explanation))
            for name, path in save(
                explanation[number], folder / f"sample_{number}", overlay, command, progress
            ).items()
        }
    folder = resolve_folder(folder, "", explanation.fingerprint)
    _check_complete(explanation, folder)
    if explanation.originals[0] is not None:
        identity = identify(explanation.originals[0])
        explanation = replace(explanation, facts={**explanation.facts, "original": identity})
    with writing(folder) as staging:
        files = {"report": staging / "report.html"} if page else {}
        files |= _write_maps(explanation, staging)
        images = _write_figures(explanation, staging) if figures else {}
        files |= {name: staging / f"{name}.png" for name in images}
        has_video = explanation.kind == "video" and explanation.originals[0] is not None
        if has_video and overlay != "none":
            for rank, name in enumerate(_stems(explanation, "overlay")):
                files[name] = staging / f"{name}.{overlay}"
                write_overlay(explanation, rank, files[name], progress)
        if page and not figures:
            files["small"] = staging / THUMBNAIL
        names = {name: path.name for name, path in files.items()}
        report = to_json({**make_report(explanation, names, command), **record})
        write_text(staging / REPORT, report)
        if page:
            _write_page(explanation, json.loads(report), images, files)
    return {name: folder / file for name, file in {**names, "json": REPORT}.items()}


def _write_page(
    explanation: Explanation,
    report: Mapping[str, Any],
    images: Mapping[str, bytes],
    files: Mapping[str, Path],
) -> None:
    content = viewer_content(explanation, warnings=False)
    shown = [(title, images[name]) for name, title in _TITLES.items() if name in images]
    write_text(files["report"], viewer.report_page(content, report, shown))
    if "small" in files:
        write_thumbnail(content, files["small"])


def _check_complete(explanation: Explanation, folder: Path) -> None:
    """ArgumentError if a result with figures of the original would be replaced by one without."""
    if explanation.originals[0] is None and read_report(folder):
        raise ArgumentError(
            f"{str(folder)!r} holds the result that was loaded, with what shows the original. Pass "
            "original to Explanation.load(), or save to another folder."
        )


def _stems(explanation: Explanation, stem: str) -> list[str]:
    """A file name for each class: the stem, with the class if there are several."""
    classes = explanation.classes[0]
    if len(classes) == 1:
        return [stem]
    parts = ["_".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in classes]
    known = all(isinstance(target, int | tuple) for target in classes)
    return [f"{stem}_{part if known else rank}" for rank, part in enumerate(parts)]


def _write_maps(explanation: Explanation, folder: Path) -> dict[str, Path]:
    files = {"map": folder / "map.npz"}
    save_map(explanation.attribution[0], files["map"], _metadata(explanation))
    others = {"method": explanation.method_maps, "layer": explanation.layer_maps}
    named = [(group, name, maps[0]) for group, m in others.items() for name, maps in m.items()]
    if named:
        files["maps"] = folder / "maps.npz"
        groups, names, maps = zip(*named, strict=True)
        identity = explanation.fingerprint
        metadata = {"groups": groups, "names": names, "fingerprint": identity}
        save_map(torch.stack(maps), files["maps"], metadata)
    scan = explanation.grid
    if scan is not None:
        suffix = explanation.facts.get("map_suffix", ".nii.gz")
        kind = "nifti" if suffix == ".nii.gz" else suffix.removeprefix(".")
        for rank, stem in enumerate(_stems(explanation, "map")):
            name = f"{kind}{stem.removeprefix('map')}"
            files[name] = folder / f"{stem}{suffix}"
            write_volume(scan.with_data(explanation.heat_map(rank)), files[name])
    return files


def _metadata(explanation: Explanation) -> dict[str, Any]:
    classes, names = explanation.classes[0], explanation.class_names[0]
    described = {
        "classes": [as_json(*each) for each in zip(classes, names, strict=True)],
        "names": names,
        "layers": explanation.layers,
        "preprocessing": explanation.model.get("preprocessing"),
        "method": explanation.method,
        "kind": explanation.kind,
        "fingerprint": explanation.fingerprint,
        **explanation.facts,
    }
    metadata: dict[str, Any] = json.loads(to_json(described))
    return metadata


def _write_figures(explanation: Explanation, folder: Path) -> dict[str, bytes]:
    """The PNG files of the figures, by name."""
    images = {}
    for name, figure in draw(explanation):
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI)
        images[name] = buffer.getvalue()
        (folder / f"{name}.png").write_bytes(images[name])
    return images


# --------------------------------------------------------------------------------------- loading


def load(folder: Path, original: Any) -> Explanation:
    """The explanation that :func:`save` wrote for one sample."""
    report = read_report(folder)
    if report is None:
        raise FileNotFoundError(f"There is no {REPORT} of an explanation in {str(folder)!r}.")
    main = load_map(folder / "map.npz")
    with _parsing(folder / REPORT):
        explanation = _from_report(report, torch.from_numpy(main.data)[None])
        expected = _expected_shape(explanation)
    if (main.metadata.get("fingerprint"), main.data.shape) != (explanation.fingerprint, expected):
        raise ValueError(_different(folder, "map.npz"))
    if (folder / "maps.npz").is_file():
        explanation = _with_maps(explanation, folder)
    return explanation if original is None else _with_original(explanation, original)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """A ValueError for anything that does not have the form that :func:`save` gives it."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not of save(): {error!r}") from error


def _different(folder: Path, name: str) -> str:
    return f"{name} and {REPORT} in {str(folder)!r} are not of the same explanation."


def _expected_shape(explanation: Explanation) -> tuple[int, ...]:
    """Of the maps (k, *S): as many as classes, axes and frames in the report."""
    axes = {"image": 2, "video": 3, "volume": 3}[explanation.kind]
    size = check_integers("size", explanation.size)
    if len(size) != (3 if explanation.kind == "volume" else 2):
        raise ValueError(f"size={list(size)}")
    check_bytes(f"{REPORT} describes an original of {size}", 3 * math.prod(size))
    spatial = [*explanation.attribution.shape[2:], *[0] * axes][:axes]
    if explanation.times is not None:
        spatial[0] = len(explanation.times)
    return (len(explanation.classes[0]), *spatial)


def _from_report(report: Mapping[str, Any], attribution: Tensor) -> Explanation:
    results, facts = report["results"], dict(report["input"])
    kind, identity = facts.pop("kind"), facts.pop("fingerprint")
    model = dict(report["model"])
    layers = model.pop("layers")
    return Explanation(
        attribution=attribution,
        classes=[[_target(each["class"]) for each in results]],
        class_names=[[str(each["name"]) for each in results]],
        scores=torch.tensor([[_number(each["score"]) for each in results]]),
        probabilities=torch.tensor([[_number(each["probability"]) for each in results]]),
        kind=kind,
        originals=[None],
        method=report["settings"]["method"],
        layers=layers,
        times=FrameTimes(facts["times"]) if "times" in facts else None,
        windows=[[[_window(row) for row in each.get("windows", ())] for each in results]],
        warnings=list(map(str, report["warnings"])),
        facts=facts,
        model=model,
        settings=report["settings"],
        fingerprint=identity,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _target(target: Any) -> Any:
    return tuple(target) if isinstance(target, list) else target


def _window(row: Mapping[str, Any]) -> Window:
    return Window(
        tuple(map(int, row["start"])),
        tuple(map(int, row["stop"])),
        row["predicted"],
        _target(row["class"]),
        row["score"],
        row["probability"],
    )


def _with_maps(explanation: Explanation, folder: Path) -> Explanation:
    data, metadata = load_map(folder / "maps.npz")
    if metadata.get("fingerprint") != explanation.fingerprint:
        raise ValueError(_different(folder, "maps.npz"))
    maps: dict[str, dict[str, Tensor]] = {"method": {}, "layer": {}}
    with _parsing(folder / "maps.npz"):
        named = zip(metadata["groups"], metadata["names"], data, strict=True)
        for group, name, each in named:
            maps[group][name] = torch.from_numpy(np.array(each))[None]
            if each.shape != explanation.attribution.shape[1:]:
                raise ValueError(f"shape {each.shape}")
    return replace(explanation, method_maps=maps["method"], layer_maps=maps["layer"])


def _with_original(explanation: Explanation, original: Any) -> Explanation:
    """Raises ArgumentError for another original than the one that was explained."""
    is_video = explanation.kind == "video"
    size: tuple[int, ...] = getattr(original, "shape", ())
    if isinstance(original, VideoFile):
        size = original.size
    elif explanation.kind == "image":
        size = size[:2]
    if isinstance(original, VideoFile) != is_video or tuple(size) != explanation.size:
        raise ArgumentError(
            f"original: expected the {explanation.kind} of size {explanation.size} that was "
            f"explained; received {type(original).__name__}{f' of {size}' if size else ''}."
        )
    if explanation.times is not None and len(original.times) != len(explanation.times):
        raise ArgumentError(
            f"original: expected the {len(explanation.times)} frames that were explained; "
            f"received {len(original.times)}. Open the video with the same sampling."
        )
    if explanation.times is not None and not np.allclose(
        original.times.edges, explanation.times.edges, atol=_TIME_ROUNDING
    ):
        raise ArgumentError("original: expected the video that was explained; its times differ.")
    affine = explanation.facts.get("affine")
    if isinstance(original, Volume) and not np.allclose(original.affine, affine or 0):
        raise ArgumentError("original: expected the scan that was explained; its affine differs.")
    if explanation.facts.get("original") not in (None, identify(original)):
        warn(
            "original: its content is not what was explained, or was read by another decoder: the "
            "map may be of another one."
        )
    return replace(explanation, originals=[original])
