"""3D Slicer: a scene in its format MRML, with the files of the scan and the maps."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from captum_3dcam._errors import ArgumentError
from captum_3dcam._files import StrPath, write_text
from captum_3dcam.explanation._explanation import Explanation
from captum_3dcam.explanation.exporters._shared import get_original
from captum_3dcam.io import Volume, write_volume

# The views of Slicer's default layout, and the directions to their right, up and across.
_VIEWS = {"Red": "LAS", "Yellow": "PSL", "Green": "LSA"}
_DIRECTIONS = {"L": (-1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1)}
_VOLUME = "vtkMRMLScalarVolumeNode"
_DISPLAY = "vtkMRMLScalarVolumeDisplayNode"
_STORAGE = "vtkMRMLVolumeArchetypeStorageNode"
_COLORS = "vtkMRMLColorTableNode"


def write_slicer_scene(explanation: Explanation, folder: StrPath, sample: int = 0) -> Path:
    """Write ``scene.mrml``, which 3D Slicer opens with the first class's map over the scan.

    The three views meet at the map's maximum. The map is drawn in Inferno where it is above half
    of its maximum, a threshold in Slicer's module Volumes. The maps of further classes are volumes,
    too. Beside the scene are ``scene_scan.nii.gz`` (of several channels the first),
    ``scene_map_0.nii.gz`` and so on, on one grid, without the description of the scan's file.

    Returns the path of the scene; an earlier one is replaced. Raises ArgumentError for what is no
    scan with an affine, and ImportError without NiBabel (extra ``medical``).
    """
    part, folder = explanation[sample], Path(folder)
    scan = get_original(part)
    if not isinstance(scan, Volume):
        raise ArgumentError(
            "A scene of 3D Slicer shows a scan that has an affine: explain an io.Volume, or its "
            f"file. This explanation is of kind {part.kind!r}, of a {type(scan).__name__}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    channel = scan.data.reshape(-1, *scan.shape)[0]
    shown = replace(scan, data=channel, header=replace(scan.header, description=""))
    write_volume(shown, folder / "scene_scan.nii.gz")
    root = ElementTree.Element("MRML")
    _add_volume(root, 1, "scene_scan.nii.gz", "scan", _scan_display(part))
    for rank, caption in enumerate(part.captions[0]):
        heat_map, file = part.heat_map(rank), f"scene_map_{rank}.nii.gz"
        write_volume(scan.with_data(heat_map), folder / file)
        _add_volume(root, rank + 2, file, caption, _map_display(float(heat_map.max()) or 1.0))
    for view in _VIEWS:
        _add_view(root, view, scan, part.peak() or [(n - 1) / 2 for n in scan.shape])
    ElementTree.indent(root)
    write_text(folder / "scene.mrml", ElementTree.tostring(root, "unicode"))
    return folder / "scene.mrml"


def _scan_display(explanation: Explanation) -> dict[str, Any]:
    window = explanation.facts.get("window")
    shown = {"autoWindowLevel": 1} if window is None else _range(*window)
    return {"colorNodeID": f"{_COLORS}Grey", **shown}


def _map_display(top: float) -> dict[str, Any]:
    threshold = {"autoThreshold": 0, "lowerThreshold": top / 2, "upperThreshold": top}
    colors = {"colorNodeID": f"{_COLORS}FileInferno.txt", **_range(0.0, top)}
    return {**colors, "applyThreshold": 1, **threshold}


def _range(low: float, high: float) -> dict[str, Any]:
    return {"autoWindowLevel": 0, "window": high - low, "level": (low + high) / 2}


def _add_volume(
    root: ElementTree.Element, number: int, file: str, name: str, display: dict[str, Any]
) -> None:
    """Slicer reads the nodes that a volume refers to wherever they are in the scene."""
    storage, shown = f"{_STORAGE}{number}", f"{_DISPLAY}{number}"
    _add(root, "VolumeArchetypeStorage", id=storage, fileName=file)
    _add(root, "VolumeDisplay", id=shown, **display)
    node = {"id": f"{_VOLUME}{number}", "name": name}
    _add(root, "Volume", **node, storageNodeRef=storage, displayNodeRef=shown)


def _add_view(root: ElementTree.Element, view: str, scan: Volume, voxel: Any) -> None:
    """One of the views, at the slice of a voxel, with the first map over the scan."""
    axes = np.array([_DIRECTIONS[letter] for letter in _VIEWS[view]]).T
    center, across = scan.to_world([(n - 1) / 2 for n in scan.shape]), axes[:, 2]
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = center + across * (across @ (scan.to_world(voxel) - center))
    lengths = abs(scan.affine[:3, :3]) @ scan.shape
    side = float((abs(axes[:, :2]).T @ lengths).max())
    layout = {"singletonTag": view, "layoutName": view}
    _add(
        root,
        "Slice",
        id=f"vtkMRMLSliceNode{view}",
        name=view,
        **layout,
        sliceToRAS=" ".join(f"{value:.6g}" for value in matrix.flat),
        fieldOfView=f"{side:.6g} {side:.6g} 1",
    )
    volumes = {"backgroundVolumeID": f"{_VOLUME}1", "foregroundVolumeID": f"{_VOLUME}2"}
    node = {"id": f"vtkMRMLSliceCompositeNode{view}", **layout}
    _add(root, "SliceComposite", **node, **volumes, foregroundOpacity=0.5, linkedControl=1)


def _add(root: ElementTree.Element, tag: str, **attributes: Any) -> None:
    ElementTree.SubElement(root, tag, {name: str(value) for name, value in attributes.items()})
