"""NRRD headers: every space and unit of the definition, and files of another length."""

import warnings

import numpy as np
import pytest

from captum_3dcam.io import read_volume, write_volume

sitk = pytest.importorskip("SimpleITK")

DATA = np.random.default_rng(0).integers(0, 100, (2, 5, 6, 7)).astype(np.uint8)
STEPS = np.array([[0.0, -1.5, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 3.0]])  # of i, j, k
ORIGIN = np.array([10.0, 20.0, 30.0])
# Of the first three coordinates of a space, by the definition of the format, to RAS.
SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
}


def nrrd(path, *lines, axes=3, data=None, step=STEPS):
    """A file by hand, in the space of its lines, of three axes or four."""
    vectors = [*(list(v) + [0] * (axes - 3) for v in step), [0, 0, 0, 1]][:axes]
    written = " ".join(f"({','.join(map(str, v))})" for v in vectors)
    header = [
        "NRRD0005", "type: uchar", f"dimension: {axes}", f"sizes: {'7 6 5 2'[: 2 * axes - 1]}",
        *(lines[:1]), f"space directions: {written}",
        f"space origin: ({','.join(map(str, [*ORIGIN, 0][:axes]))})", "encoding: raw", *lines[1:],
    ]  # fmt: skip
    data = DATA.tobytes() if axes == 4 else DATA[0].tobytes() if data is None else data
    end = b"\n\n" if data else b"\n"  # not after a list of files, of which it would be one
    path.write_bytes("\n".join(header).encode("latin-1") + end + data)
    return path


def names(space):
    """The spellings of a space that the format knows."""
    words = space.split("-")
    initials = "".join(word[0] for word in words)
    return [space, space.upper(), " ".join(words), initials.upper(), initials]


@pytest.mark.parametrize(("space", "signs"), SIGNS.items(), ids=SIGNS)
@pytest.mark.parametrize("timed", [False, True])
def test_every_space_of_a_patient_is_converted_without_a_warning(tmp_path, space, signs, timed):
    for name in names(f"{space}-time" if timed else space):
        axes = 4 if timed else 3
        path = nrrd(tmp_path / "scan.nrrd", f"space: {name}", axes=axes)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            volume = read_volume(path, index=1 if timed else None)
        for d, h, w in [(0, 0, 0), (4, 1, 6), (3, 5, 2)]:
            assert volume.data[d, h, w] == DATA[int(timed), d, h, w]
            expected = (ORIGIN + (w, h, d) @ STEPS) * signs
            np.testing.assert_allclose(volume.to_world((d, h, w)), expected)
        write_volume(volume, tmp_path / "map.nrrd")
        image = sitk.ReadImage(str(tmp_path / "map.nrrd"))  # in LPS
        x, y, z = image.TransformIndexToPhysicalPoint((6, 1, 4))
        np.testing.assert_allclose((-x, -y, z), (ORIGIN + (6, 1, 4) @ STEPS) * signs)


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "SCANNER-XYZ"])
@pytest.mark.parametrize("time", ["", "-time"])
def test_a_space_that_is_not_a_patients_is_warned_of(tmp_path, space, time):
    path = nrrd(tmp_path / "scan.nrrd", f"space: {space}{time}", axes=4 if time else 3)
    with pytest.warns(UserWarning, match=rf"orientation \(its space is (?i:{space}{time})\)\. As"):
        volume = read_volume(path, index=0)
    np.testing.assert_allclose(volume.to_world((0, 0, 0)), ORIGIN * (-1, -1, 1))


@pytest.mark.parametrize("time", ["", "-time"])
def test_a_left_handed_space_is_refused(tmp_path, time):
    path = nrrd(tmp_path / "scan.nrrd", f"space: 3D-left-handed{time}", axes=4 if time else 3)
    with pytest.raises(ValueError, match=rf"its space is 3D-left-handed{time}, .* write them into"):
        read_volume(path, index=0)


def test_an_unknown_space_is_refused(tmp_path):
    path = nrrd(tmp_path / "scan.nrrd", "space: upside-down")
    with pytest.raises(ValueError, match="upside-down"):
        read_volume(path)


def test_time_is_the_last_axis(tmp_path):
    path = nrrd(tmp_path / "scan.nrrd", "space: RAST", axes=4)
    text = path.read_bytes()
    first = b"(0.0,-1.5,0.0,0) (2.0,0.0,0.0,0)"
    assert text.count(first) == 1
    path.write_bytes(
        text.replace(first, b"(0,0,0,1) (2,0,0,0)").replace(b") (0,0,0,1)\n", b") (0,-1.5,0,0)\n")
    )
    with pytest.raises(ValueError, match="its last axis is not that of time"):
        read_volume(path, index=0)


# --------------------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("mm", 1), ("Millimeters", 1), ("um", 1e-3), ("\xc2\xb5m", 1e-3), ("\xb5m", 1e-3),
     ("microns", 1e-3), ("m", 1e3), ("metre", 1e3), ("", 1)],
)  # fmt: skip
def test_positions_are_in_mm_and_a_map_keeps_the_unit(tmp_path, unit, mm):
    line = f"space units: {' '.join([chr(34) + unit + chr(34)] * 3)}"
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        volume = read_volume(path)
        write_volume(volume.with_data(volume.data / 2), tmp_path / "map.nrrd")
        again = read_volume(tmp_path / "map.nrrd")
    np.testing.assert_allclose(volume.to_world((4, 1, 6)), (ORIGIN + (6, 1, 4) @ STEPS) * mm)
    np.testing.assert_allclose(again.affine, volume.affine, rtol=1e-6)
    np.testing.assert_array_equal(again.data, volume.data / 2)
    # In ITK, which reads no units, the map lies on the scan too.
    ours, theirs = (sitk.ReadImage(str(tmp_path / f"{n}.nrrd")) for n in ("map", "scan"))
    for index in [(0, 0, 0), (6, 1, 4)]:
        np.testing.assert_allclose(
            ours.TransformIndexToPhysicalPoint(index), theirs.TransformIndexToPhysicalPoint(index)
        )


def test_units_of_axes_with_spacings(tmp_path):
    path = tmp_path / "scan.nrrd"
    header = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 7 6 5\nspacings: 1 2 3\nencoding: raw\n"
    path.write_bytes(f'{header}units: "um" "um" "um"\n\n'.encode() + DATA[0].tobytes())
    with pytest.warns(UserWarning, match="states no orientation"):
        assert read_volume(path).spacing == pytest.approx((0.003, 0.002, 0.001))


@pytest.mark.parametrize(
    ("unit", "mm", "message"),
    [("cm", 10, r'"cm" "cm" "cm"\. Positions are converted to mm, also in a map'),
     ("furlong", 1, r'"furlong" "furlong" "furlong", which is not known\. Its positions are tak')],
)  # fmt: skip
def test_other_units_are_warned_of(tmp_path, unit, mm, message):
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", f'space units: "{unit}" "{unit}" "{unit}"')
    with pytest.warns(UserWarning, match=message):
        volume = read_volume(path)
    np.testing.assert_allclose(volume.to_world((0, 0, 0)), ORIGIN * mm)


def test_different_units_are_refused(tmp_path):
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", 'space units: "mm" "mm" "um"')
    with pytest.raises(ValueError, match='its axes have different units: "mm" "mm" "um"'):
        read_volume(path)


# ------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("source", "files"),
    [("a.raw", {"a.raw": 210}), ("LIST\n" + "\n".join(f"{i}.raw" for i in range(5)), {"3.raw": 42}),
     ("s%02d.raw 2 10 2", {"s04.raw": 42})],
)  # fmt: skip
def test_detached_values_have_the_length_of_the_header(tmp_path, source, files):
    path = nrrd(tmp_path / "scan.nhdr", "space: RAS", f"data file: {source}", data=b"")
    for name in [*(f"{i}.raw" for i in range(5)), *(f"s{i:02d}.raw" for i in range(2, 12, 2))]:
        index = "02468".index(str(int(name[1:3]) - 2)) if name[0] == "s" else int(name[0])
        (tmp_path / name).write_bytes(DATA[0, index].tobytes())
    (tmp_path / "a.raw").write_bytes(DATA[0].tobytes())
    np.testing.assert_array_equal(read_volume(path).data, DATA[0])
    ((name, size),) = files.items()
    good = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(b"head" + good)
    message = f"'{name}' has {size + 4} bytes; its header describes {size}. If the values are its"
    with pytest.raises(ValueError, match=message):
        read_volume(path)
    (tmp_path / name).write_bytes(good[:-1])
    with pytest.raises(ValueError, match=rf"has {size - 1} bytes; .* {size}\. It is truncated"):
        read_volume(path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="scan.nhdr' cannot be read as NRRD"):
        read_volume(path)


@pytest.mark.parametrize("skip", ["byte skip: 4", "byte skip: -1"])
def test_a_skip_is_respected(tmp_path, skip):
    path = nrrd(tmp_path / "scan.nhdr", "space: RAS", skip, "data file: a.raw", data=b"")
    (tmp_path / "a.raw").write_bytes(b"head" + DATA[0].tobytes())
    np.testing.assert_array_equal(read_volume(path).data, DATA[0])


def test_an_axis_without_a_direction_is_warned_of(tmp_path):
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS")
    text = path.read_bytes()
    assert text.count(b"(0.0,0.0,3.0)") == 1
    path.write_bytes(text.replace(b"(0.0,0.0,3.0)", b"none"))
    message = r"an axis without a direction: space directions \(0.*none\. Its voxels are .* 1 mm ap"
    with pytest.warns(UserWarning, match=message):
        assert read_volume(path).spacing == (1, 2, 1.5)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("rest", [b"\0\0\0x", b"x"])
def test_a_few_bytes_after_the_values_are_warned_of_too(tmp_path, end, rest):
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", data=b"@")
    header = path.read_bytes()[:-1].replace(b"\n", end)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path.write_bytes(header + DATA[0].tobytes())
        np.testing.assert_array_equal(read_volume(path).data, DATA[0])
    path.write_bytes(header + DATA[0].tobytes() + rest)
    with pytest.warns(UserWarning, match=f"has {len(rest)} bytes or more after the values"):
        np.testing.assert_array_equal(read_volume(path).data, DATA[0])


def test_bytes_after_the_values_are_warned_of(tmp_path):
    data = DATA[0].tobytes()
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", data=data + bytes(999))
    with pytest.warns(UserWarning, match="has 999 bytes or more after the values"):
        np.testing.assert_array_equal(read_volume(path).data, DATA[0])
    path = nrrd(tmp_path / "scan.nrrd", "space: RAS", data=data + bytes(512))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_volume(path)
