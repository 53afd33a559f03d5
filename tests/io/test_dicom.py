"""DICOM series: positions and values by the standard's formula; clear errors for bad series."""

import gzip
import shutil
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captum_3dcam._files import MAX_BYTES_VARIABLE
from captum_3dcam.io import (
    SeveralVolumesError,
    dicom_kind,
    list_series,
    read_dicom,
    read_nifti,
    read_volume,
    write_nifti,
)
from captum_3dcam.io.dicom import _slices

pydicom = pytest.importorskip("pydicom")
from dicom_files import (  # noqa: E402
    ALONG_COLUMN,
    ALONG_ROW,
    FIRST,
    NORMAL,
    SERIES,
    SIZE,
    SPACING,
    STEP,
    save,
    slice_of,
    stored,
    write_series,
)
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)


@pytest.fixture
def series(tmp_path):
    """Four slices, whose file names and instance numbers are not in spatial order."""
    write_series(tmp_path / "series")
    return tmp_path / "series"


# ---------------------------------------------------------------------- positions and values


def test_positions_and_values(series):
    volume = read_dicom(series)
    assert volume.shape == (4, *SIZE)
    assert volume.data.dtype == np.float32
    assert volume.spacing == pytest.approx((STEP, *SPACING))
    for d, h, w in np.ndindex(*volume.shape):
        # The standard's formula: position + column * spacing * row direction + row * ...
        lps = FIRST + d * STEP * NORMAL + ALONG_ROW * w * SPACING[1] + ALONG_COLUMN * h * SPACING[0]
        np.testing.assert_allclose(volume.to_world([d, h, w]), lps * [-1, -1, 1], atol=1e-6)
        assert volume.data[d, h, w] == int(stored(d)[h, w]) * (1 + d) - 1024


def test_an_axial_scan_runs_from_the_feet_up(tmp_path):
    axial = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for number in range(3):
        dataset = slice_of(number, **axial, ImagePositionPatient=[0, 0, 5 - 5 * number])
        save(dataset, tmp_path / f"{number}")
    volume = read_dicom(tmp_path)
    assert volume.orientation == "SPL"
    np.testing.assert_array_equal(volume.data[0], 3.0 * stored(2) - 1024)


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
)
def test_every_transfer_syntax_gives_the_same_volume(tmp_path, series, syntax):
    folder = tmp_path / "other"
    folder.mkdir()
    for number in range(4):
        save(slice_of(number), folder / f"IM{number}", syntax)
    volume, expected = read_dicom(folder), read_dicom(series)
    np.testing.assert_array_equal(volume.data, expected.data)
    np.testing.assert_allclose(volume.affine, expected.affine)


def test_a_folder_and_a_list_of_its_files_give_the_same_volume(series):
    expected = read_dicom(series)
    for source in (str(series), list(series.iterdir()), [str(p) for p in series.iterdir()][::-1]):
        np.testing.assert_array_equal(read_dicom(source).data, expected.data)
    assert read_volume(series).shape == expected.shape


def test_dicom_and_nifti_agree(series, tmp_path):
    pytest.importorskip("nibabel")
    scan = read_dicom(series)
    write_nifti(scan, tmp_path / "scan.nii.gz")
    again = read_nifti(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(again.data, scan.data)
    np.testing.assert_allclose(again.affine, scan.affine, atol=1e-4)


def test_a_tilted_gantry_shears_the_volume(tmp_path):
    step = STEP * NORMAL + 0.7 * ALONG_COLUMN
    write_series(tmp_path / "tilted", step=step)
    message = r"tilted by 15.6 degrees \(gantry tilt\): each is shifted by 0.7 mm.*ITK, show it sh"
    with pytest.warns(UserWarning, match=message):
        volume = read_dicom(tmp_path / "tilted")
    np.testing.assert_allclose(volume.affine[:3, 0], step * [-1, -1, 1], atol=1e-6)
    np.testing.assert_allclose(volume.to_world([3, 0, 0]), (FIRST + 3 * step) * [-1, -1, 1])


@pytest.mark.parametrize(("between", "expected"), [(None, 4.0), (3.0, 3.0)])
def test_a_single_slice_has_the_thickness_of_its_header(tmp_path, between, expected):
    more = {} if between is None else {"SpacingBetweenSlices": between}
    volume = read_dicom(save(slice_of(0, **more), tmp_path / "one.dcm"))
    assert volume.shape == (1, *SIZE)
    np.testing.assert_allclose(volume.affine[:3, 0], expected * NORMAL * [-1, -1, 1], atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("modality", ["MR", "CT", "PT"])
def test_the_values_of_monochrome1_are_kept_and_announced(tmp_path, dtype, modality, recwarn):
    info = np.iinfo(dtype)
    pixels = np.array([[info.min, info.min + 1], [0, info.max]], dtype)
    changed = {"PhotometricInterpretation": "MONOCHROME1", "Modality": modality}
    volume = read_dicom(save(slice_of(1, pixels=pixels, **changed), tmp_path / "one.dcm"))
    np.testing.assert_array_equal(volume.data[0], pixels.astype(float) * 2 - 1024)
    texts = [str(warning.message) for warning in recwarn]
    assert len(texts) == (modality == "MR")
    assert all("The scan is MONOCHROME1: low values are white" in text for text in texts)


def test_a_series_in_monochrome1_is_announced_once(tmp_path, recwarn):
    changed = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "MR"}
    write_series(tmp_path / "s", **changed)
    np.testing.assert_array_equal(read_dicom(tmp_path / "s").data[0], stored(0) - 1024.0)
    assert len(recwarn) == 1


def test_slices_whose_low_values_are_white_and_black_are_refused(tmp_path):
    write_series(tmp_path / "s", range(3), Modality="MR")
    changed = {"PhotometricInterpretation": "MONOCHROME1", "Modality": "MR"}
    save(slice_of(3, **changed), tmp_path / "s" / "last.dcm")
    with pytest.raises(ValueError, match=r"white in some slices of '.*s' and black in others"):
        read_dicom(tmp_path / "s")


def test_without_a_rescale_the_stored_values_are_kept(tmp_path):
    dataset = slice_of(0, RescaleSlope=None, RescaleIntercept=None)
    np.testing.assert_array_equal(read_dicom(save(dataset, tmp_path / "a")).data[0], stored(0))


@pytest.mark.parametrize(
    ("changed", "slope", "intercept"),
    [
        ({"RescaleSlope": None}, 1, -1024),
        ({"RescaleIntercept": None}, 2, 0),
        ({"RescaleSlope": "", "RescaleIntercept": ""}, 1, 0),
    ],
)
def test_a_part_of_the_rescale_is_applied(tmp_path, changed, slope, intercept):
    path = save(slice_of(1, **changed), tmp_path / "one.dcm")
    np.testing.assert_array_equal(read_dicom(path).data[0], stored(1) * float(slope) + intercept)


def test_other_files_in_the_folder_are_ignored(series):
    expected = read_dicom(series).data
    (series / "README.txt").write_text("scanned in May")
    (series / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (series / "._00.dcm").write_bytes(b"a Mac was here")
    (series / "more").mkdir()
    (series / "more" / "notes.bin").write_bytes(b"\x08\x00\x05\x00CS" + bytes(200))
    np.testing.assert_array_equal(read_dicom(series).data, expected)


# ---------------------------------------------------------------------------- invalid series


@pytest.mark.parametrize("numbers", [(0, 1, 3, 4), (0, 1, 2, 6, 7)])
def test_missing_slices_are_named(tmp_path, numbers):
    write_series(tmp_path / "s", numbers)
    gap = 1 if 3 in numbers else 3
    before, after = ("07", "01") if gap == 1 else ("04", "02")
    message = rf"{gap} or more slices are missing between '.*{before}.dcm' and '.*{after}.dcm'"
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path / "s")


@pytest.mark.parametrize("copies", [1, 4])
def test_a_slice_that_is_there_twice_is_read_once(series, copies):
    expected = read_dicom(series)
    for path in sorted(series.iterdir())[:copies]:
        shutil.copy(path, series / f"copy_of_{path.name}")
    np.testing.assert_array_equal(read_dicom(series).data, expected.data)


def test_slices_that_an_anonymizer_gave_one_uid_are_all_read(tmp_path):
    write_series(tmp_path / "s", SOPInstanceUID="1.2.3")
    assert read_dicom(tmp_path / "s").shape == (4, *SIZE)


def test_two_slices_at_one_position_are_named(series):
    save(slice_of(2, SOPInstanceUID="1.2.9"), series / "again.dcm")
    message = r"Two slices at the same position: '.*04.dcm' and '.*again.dcm'\. .*time points"
    with pytest.raises(ValueError, match=message):
        read_dicom(series)


@pytest.mark.parametrize("direction", [0.4 * NORMAL, 0.4 * ALONG_ROW])
def test_an_unevenly_spaced_slice_is_named(series, direction):
    off = slice_of(2, ImagePositionPatient=list(FIRST + 2 * STEP * NORMAL + direction))
    save(off, series / "04.dcm")
    with pytest.raises(
        ValueError, match=r"not evenly spaced .*04.dcm' is 0.4 mm from its expected position"
    ):
        read_dicom(series)


def test_rounded_positions_are_accepted(tmp_path):
    for n in range(6):
        position = [f"{x:.1f}" for x in FIRST + n * STEP * NORMAL]
        save(slice_of(n, ImagePositionPatient=position), tmp_path / f"{n}.dcm")
    assert read_dicom(tmp_path).spacing[0] == pytest.approx(STEP, abs=0.02)


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        ({"ImageOrientationPatient": [f"{x:.12f}" for x in (*ALONG_COLUMN, *NORMAL)]}, "5 x 6"),
        ({"PixelSpacing": [0.8, 0.8]}, "5 x 6"),
        ({"pixels": np.zeros((5, 7), np.uint16)}, "5 x 7"),
    ],
)
def test_stacks_of_different_orientation_spacing_or_size_are_listed(series, changed, size):
    save(slice_of(3, **changed), series / "01.dcm")
    message = (
        r"several volumes: 0: \w+ \(3 slices of 5 x 6 pixels\); 1: \w+ \(1 slice of "
        rf"{size} pixels\)\. Pass index= \(--index\), 0 to 1, "
    )
    with pytest.raises(ValueError, match=message):
        read_dicom(series)
    assert read_dicom(series, index=0).shape == (3, *SIZE)
    assert read_dicom(series, index=1).shape[0] == 1
    with pytest.raises(ValueError, match="There is no index 2: 0: "):
        read_dicom(series, index=2)
    with pytest.raises(ValueError, match="on different grids: pass one index"):
        read_dicom(series, index="all")


@pytest.mark.parametrize(
    "tag", ["EchoTime", "TemporalPositionIdentifier", "AcquisitionNumber", "DiffusionBValue"]
)
def test_time_points_and_echoes_of_one_series_are_listed(tmp_path, tag):
    for number in range(8):
        value = [20, 3][number // 4]
        dataset = slice_of(number % 4, **{tag: value, "SOPInstanceUID": f"1.2.{number}"})
        dataset.RescaleIntercept = value
        save(dataset, tmp_path / f"{number}.dcm")
    message = rf"several volumes: 0: {tag} 3(\.0)? \(4 slices of 5 x 6 pixels\); 1: {tag} 20"
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)
    with pytest.raises(SeveralVolumesError) as caught:
        read_volume(tmp_path)
    assert caught.value.count == 2
    first, second = read_dicom(tmp_path, index=0), read_dicom(tmp_path, index=1)
    np.testing.assert_array_equal(first.data + 17, second.data)
    both = read_dicom(tmp_path, index="all")
    np.testing.assert_array_equal(both.data, [first.data, second.data])
    np.testing.assert_array_equal(both.affine, first.affine)


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        (
            [{"PixelSpacing": [0.8, 0.6]}, {"PixelSpacing": [0.8, 0.9]}],
            ["0.8 x 0.6 mm apart", "0.8 x 0.9 mm apart"],
        ),
        (
            [
                {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "EchoTime": 5},
                {"ImageOrientationPatient": [0.8, 0.6, 0, -0.6, 0.8, 0], "EchoTime": 7},
            ],
            ["EchoTime 5.0", "EchoTime 7.0"],
        ),
        (
            [
                {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [1, 2, 3]},
                {
                    "ImageOrientationPatient": [0.8, 0.6, 0, -0.6, 0.8, 0],
                    "ImagePositionPatient": [1, 2, 9],
                },
            ],
            ["first pixel at (-1.0, -2.0, 3.0) mm RAS", "first pixel at (-1.0, -2.0, 9.0) mm RAS"],
        ),
        (
            [
                {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
                {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]},
            ],
            ["normal (0.000, 0.000, 1.000) RAS", "normal (0.000, 0.600, 0.800) RAS"],
        ),
    ],
)
def test_volumes_of_one_orientation_are_told_apart(tmp_path, changes, texts):
    for number, changed in enumerate(changes):
        common = {"ImagePositionPatient": [0, 0, 0], "SOPInstanceUID": f"1.{number}"}
        save(slice_of(number, **{**common, **changed}), tmp_path / f"{number}.dcm")
    with pytest.raises(ValueError, match="several volumes") as caught:
        read_dicom(tmp_path)
    choices = str(caught.value).split("; ")
    for number, (choice, text) in enumerate(zip(choices, texts, strict=True)):
        assert f"{number}: " in choice
        assert f"(1 slice of 5 x 6 pixels, {text})" in choice


def write_phases(folder, phases=3, **labels):
    """Several volumes, with labels as functions of the phase and the number of the slice."""
    for phase in range(phases):
        for number in range(4):
            changed = {name: label(phase, number) for name, label in labels.items()}
            instance = f"1.2.{phase}.{number}"
            item = slice_of(number, SOPInstanceUID=instance, InstanceNumber=phase, **changed)
            item.RescaleIntercept = phase
            save(item, folder / f"{phase}{number}.dcm")


def test_a_label_that_differs_between_slices_does_not_split_volumes(tmp_path):
    """As the trigger times of cine MR, which follow the heart of each slice."""
    write_phases(
        tmp_path,
        TriggerTime=lambda phase, number: 30 * phase + number,
        TemporalPositionIdentifier=lambda phase, _: phase + 1,
    )
    with pytest.raises(ValueError, match=r"0: TemporalPositionIdentifier 1 \(4 .*; 2: [^;]*\)\. "):
        read_dicom(tmp_path)
    assert read_dicom(tmp_path, index="all").channels == 3


def test_two_labels_together_tell_volumes_apart(tmp_path):
    write_phases(
        tmp_path,
        phases=4,
        EchoTime=lambda phase, _: 5 + phase // 2,
        DiffusionBValue=lambda phase, _: 1000 * (phase % 2),
        TriggerTime=lambda phase, number: 30 * phase + number,
    )
    message = (
        r"0: EchoTime 5(\.0)?, DiffusionBValue 0(\.0)? \(4 .*3: EchoTime 6(\.0)?, Dif[^;]*\)\. "
    )
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)
    first, last = read_dicom(tmp_path, index=0), read_dicom(tmp_path, index=3)
    np.testing.assert_array_equal(first.data + 3, last.data)


def test_volumes_that_nothing_tells_apart_are_refused(tmp_path):
    write_phases(tmp_path, TriggerTime=lambda phase, number: 30 * phase + number)
    with pytest.raises(ValueError, match="Two slices at the same position"):
        read_dicom(tmp_path)


def test_all_volumes_together_have_to_fit_the_memory_limit(tmp_path, monkeypatch):
    for number in range(8):
        changed = {"EchoTime": number // 4, "SOPInstanceUID": f"1.2.{number}"}
        save(slice_of(number % 4, **changed), tmp_path / f"{number}.dcm")
    monkeypatch.setattr(_slices, "BYTES_PER_PIXEL", 0)
    size = 2 * 4 * 8 * 5 * 6
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"describes 8 slices of 5 x 6 pixels, {size:,} bytes"):
        read_dicom(tmp_path, index="all")
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert read_dicom(tmp_path, index="all").channels == 2


WRONG = [
    ({"NumberOfFrames": 3}, "3 frames and the positions of 0. Expected a position in the patient"),
    ({"NumberOfFrames": -3}, "-3 frames and the positions of 0"),
    ({"SamplesPerPixel": 3}, "it has colour channels. Expected greyscale slices"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "it is PALETTE COLOR; expected MONOCHROME1"),
    ({"ImagePositionPatient": None}, "no ImagePositionPatient, so it is not a slice of a volume"),
    ({"ImageOrientationPatient": None}, "no ImageOrientationPatient"),
    ({"PixelSpacing": None}, "no PixelSpacing"),
    ({"Columns": None}, "no Columns"),
    ({"PixelSpacing": [0.8, 0]}, r"its geometry is damaged: PixelSpacing \[0.8, 0.0\], Image"),
    ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "its geometry is damaged"),
    ({"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]}, "its geometry is damaged"),
    ({"ImageOrientationPatient": [1, 0, 0]}, "its geometry is damaged"),
    ({"Columns": 0}, "its size is 5 x 0"),
    ({"Rows": 50}, ""),
    ({"PixelData": None}, ""),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_an_invalid_slice_is_named(tmp_path, changed, message):
    path = save(slice_of(0, **changed), tmp_path / "one.dcm")
    with pytest.raises(ValueError, match=rf"one.dcm' cannot be read as a DICOM slice: .*{message}"):
        read_dicom(path)


def test_a_header_that_ends_early_is_not_taken_for_another_object(series):
    """Then a slice could be missing unnoticed."""
    save(slice_of(1, Rows=None), series / "07.dcm")
    with pytest.raises(ValueError, match=r"07.dcm' .* damaged: it is an image, but has no Rows"):
        read_dicom(series)


def test_a_slice_cannot_request_much_memory(tmp_path):
    path = save(slice_of(0, Rows=60000, Columns=60000), tmp_path / "one.dcm")
    with pytest.raises(ValueError, match="one.dcm' describes 60000 x 60000 pixels, 115,200,000,0"):
        read_dicom(path)


def test_a_volume_above_the_memory_limit_is_refused(series, monkeypatch):
    size = 4 * 4 * 5 * 6
    assert read_dicom(series).data.nbytes == size
    monkeypatch.setattr(_slices, "BYTES_PER_PIXEL", 0)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"describes 4 slices of 5 x 6 pixels, {size:,} bytes"):
        read_dicom(series)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert read_dicom(series).data.nbytes == size


def test_a_deflated_file_cannot_request_more_than_the_limit(tmp_path, monkeypatch):
    path = save(slice_of(0), tmp_path / "one.dcm", DeflatedExplicitVRLittleEndian)
    size = 1032 * path.stat().st_size
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size))
    assert read_dicom(path).shape == (1, *SIZE)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, str(size - 1))
    with pytest.raises(ValueError, match=rf"one.dcm' describes up to 1032 x \d+ bytes, {size:,} "):
        read_dicom(path)


def test_a_slice_without_thickness_is_no_volume(tmp_path):
    path = save(slice_of(0, SliceThickness=None), tmp_path / "one.dcm")
    with pytest.raises(ValueError, match="one.dcm' is a single slice without a thickness"):
        read_dicom(path)


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no DICOM file or folder '.*none'"):
        read_dicom(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no DICOM file '.*none'"):
        read_dicom([tmp_path / "none"])
    with pytest.raises(ValueError, match="The folder '.*' has no DICOM files"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not DICOM", bytes(1000)])
def test_a_damaged_file_in_the_folder_is_named(series, content):
    expected = read_dicom(series).data
    (series / "05.dcm").write_bytes(content)
    with pytest.warns(UserWarning, match=r"1 DICOM file is damaged and passed over\. .*05.dcm'"):
        volume = read_dicom(series)
    np.testing.assert_array_equal(volume.data, expected)
    for source in (series / "05.dcm", list(series.iterdir())):
        with pytest.raises(ValueError, match=r"05.dcm' cannot be read as a DICOM file"):
            read_dicom(source)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_truncated_slice_at_the_end_of_the_series_is_an_error(series, zipped):
    """Wherever it ends, also within a UID; the other slices alone are evenly spaced."""
    (path,) = (p for p in series.iterdir() if pydicom.dcmread(p).InstanceNumber == 47)
    content = path.read_bytes()
    path.unlink()
    expected = read_dicom(series).shape
    assert expected == (3, *SIZE)
    path = series / f"end.dcm{'.gz' * zipped}"
    packed = gzip.compress(content) if zipped else content
    for length in range(2 if zipped else 132, len(packed)):
        path.write_bytes(packed[:length])
        with pytest.raises(ValueError, match=r"end.dcm"):
            read_dicom(series)
    path.write_bytes(packed)
    assert read_dicom(series).shape == (4, *SIZE)


@pytest.mark.parametrize("at", [-6, -40])
def test_a_slice_in_gzip_with_a_wrong_checksum_is_an_error(series, at):
    content = bytearray(gzip.compress((series / "07.dcm").read_bytes()))
    content[at] ^= 255
    (series / "07.dcm").unlink()
    (series / "07.dcm.gz").write_bytes(content)
    other = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 9}
    for number in range(3):
        changed = {"SOPInstanceUID": f"1.2.9.{number}", **other}
        save(slice_of(number, **changed), series / f"other{number}.dcm")
    with pytest.raises(ValueError, match=r"07.dcm.gz' cannot be read as a DICOM file"):
        read_dicom(series, SERIES)
    with pytest.warns(UserWarning, match=r"1 DICOM file is damaged"):  # its header tells
        assert read_dicom(series, "1.2.9").shape == (3, *SIZE)


@pytest.mark.parametrize(
    ("tags", "says"),
    [({}, "is 2.5 mm"), ({"SpacingBetweenSlices": 2.5, "SliceThickness": 9}, "is 2.5 mm"),
     ({"SliceThickness": None}, "is not given")],
)  # fmt: skip
@pytest.mark.parametrize("count", [3, 5])
def test_damaged_files_and_slices_too_far_apart_are_an_error(tmp_path, tags, says, count):
    """Every second one is damaged, so that the others are evenly spaced."""
    for number in range(count):
        save(slice_of(number, **{"SliceThickness": STEP, **tags}), tmp_path / f"{number}.dcm")
    for number in range(1, count, 2):
        (tmp_path / f"{number}.dcm").write_bytes(b"")
    named = ", ".join(f"'{tmp_path / str(n)}.dcm'" for n in range(1, count, 2))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="5 mm") as e:
        read_dicom(tmp_path)
    assert f"({named}) in the folder of the series may be slices of it" in str(e.value)
    assert f"5 mm apart, but SpacingBetweenSlices or SliceThickness {says}." in str(e.value)


def test_damaged_files_whose_series_is_elsewhere_are_passed_over(series):
    (series / "more").mkdir()
    (series / "more" / "cut.dcm").write_bytes(bytes(128) + b"DICM\x02")
    with pytest.warns(UserWarning, match=r"1 DICOM file is damaged and passed over\. .*cut.dcm'"):
        assert read_dicom(series).shape == (4, *SIZE)
    (series / "more" / "cut.dcm").rename(series / "cut.dcm")
    message = r"1 damaged file \('.*cut.dcm'\) in the folder of the series may be slices of it: "
    with pytest.raises(ValueError, match=message):
        read_dicom(series)


def test_several_damaged_files_are_announced_once(series, recwarn):
    for name in ("zz.dcm", "yy.dcm"):
        (series / name).write_bytes(b"")
    (series / "more").mkdir()
    other = {"SeriesInstanceUID": "1.2.9", "SOPInstanceUID": "1.2.9.1"}
    save(slice_of(1, Rows=None, **other), series / "more" / "other.dcm")
    path = save(slice_of(1, SeriesNumber=71, **other), series / "more" / "number.dcm")
    content = path.read_bytes()
    assert content.count(b"IS\x02\x0071") == 1
    path.write_bytes(content.replace(b"IS\x02\x0071", b"IS\x02\x00x1"))
    assert read_dicom(series).shape == (4, *SIZE)
    (text,) = (str(warning.message) for warning in recwarn)
    assert text.startswith("4 DICOM files are damaged and passed over. The first: '")
    assert "yy.dcm' cannot be read as a DICOM file: it has no DICOM header. If it is" in text


def test_a_damaged_slice_of_the_series_is_an_error(series):
    """Its end may be missing, as after a copy that was interrupted."""
    path = series / "07.dcm"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x28\x00\x10\x00")])  # before Rows
    other = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 9}
    for number in range(3):
        changed = {"SOPInstanceUID": f"1.2.9.{number}", **other}
        save(slice_of(number, **changed), series / f"other{number}.dcm")
    with pytest.raises(ValueError, match=r"07.dcm' .* damaged: it is an image, but has no Rows"):
        read_dicom(series, SERIES)
    with pytest.warns(UserWarning, match=r"1 DICOM file is damaged"):
        assert read_dicom(series, "1.2.9").shape == (3, *SIZE)


def test_a_damaged_slice_without_a_preamble_is_noticed(series):
    """Its content alone says that it is DICOM."""
    content = (series / "07.dcm").read_bytes()
    (series / "07.dcm").unlink()
    dataset = content[content.index(b"\x08\x00\x16\x00") :]
    (series / "IM7").write_bytes(dataset[: dataset.index(b"\x28\x00\x10\x00")])
    with pytest.raises(ValueError, match=r"IM7' .* damaged: it is an image, but has no Rows"):
        read_dicom(series)


def test_a_folder_of_damaged_files_alone_is_an_error(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"")
    for read in (read_dicom, list_series, dicom_kind):
        with pytest.raises(ValueError, match=r"a.dcm' cannot be read .*: it has no DICOM header"):
            read(tmp_path)


def test_files_in_gzip_are_read(series, tmp_path, monkeypatch):
    expected = read_dicom(series)
    for path in series.iterdir():
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    files = sorted(tmp_path.glob("*.gz"))
    np.testing.assert_array_equal(read_dicom(files).data, expected.data)
    np.testing.assert_array_equal(read_volume(files[0]).data[0], read_dicom(files[0]).data[0])
    shutil.rmtree(series)
    np.testing.assert_array_equal(read_dicom(tmp_path).data, expected.data)
    monkeypatch.setenv(MAX_BYTES_VARIABLE, "200")
    with pytest.raises(ValueError, match="gz' describes at least this much in gzip, 201 bytes in"):
        read_dicom(files[0])
    monkeypatch.delenv(MAX_BYTES_VARIABLE)
    files[0].write_bytes(files[0].read_bytes()[:100])
    with pytest.raises(ValueError, match=r"gz' cannot be read as a DICOM file: Compressed file"):
        read_dicom(files[0])


def test_more_pixels_than_the_header_describes(series):
    """Which pydicom takes for several frames."""
    dataset = slice_of(1)
    dataset.PixelData = dataset.PixelData * 3
    path = save(dataset, series / "long.dcm")
    with pytest.raises(
        ValueError, match=r"long.dcm'.* pixels are \(3, 5, 6\); .* describes \(5, 6\)"
    ):
        read_dicom(path)


def test_a_damaged_rescale_is_named(series):
    path = series / "01.dcm"
    content = path.read_bytes()
    assert content.count(b"-1024.0 ") == 1
    path.write_bytes(content.replace(b"-1024.0 ", b"-inf    "))
    with pytest.raises(
        ValueError, match=r"01.dcm' .*: its rescale is damaged: slope 4.0, intercept -inf"
    ):
        read_dicom(series)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    write_series(folder, range(3))
    save(slice_of(1), folder / "07.dcm", RLELossless)
    return folder, (folder / "07.dcm").read_bytes()


@given(data=st.data())
def test_a_damaged_file_gives_a_volume_or_an_error_that_names_it(samples, data):
    folder, whole = samples
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(128, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "07.dcm").write_bytes(content[: data.draw(st.integers(140, len(content)))])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            volume = read_dicom(folder)
        except ValueError as error:
            assert str(folder) in str(error)  # noqa: PT017
            return
    passed_over = any("07.dcm' cannot be read" in str(each.message) for each in caught)
    assert volume.shape == ((2 if passed_over else 3), *SIZE)
