"""What DICOM files are: series, kinds, and how one is chosen. Nothing of it names the patient."""

import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

from captum_3dcam.io import (
    dicom_kind,
    list_series,
    read_cine,
    read_dicom,
    read_dicom_image,
    write_nifti,
)

pydicom = pytest.importorskip("pydicom")
from dicom_files import SERIES, SIZE, image_of, save, slice_of, stored, write_series  # noqa: E402

XRAY = np.arange(48, dtype=np.uint16).reshape(6, 8)
CINE = np.random.default_rng(3).integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)
PATIENT = {
    "PatientName": "Muster^Erika",
    "PatientID": "PID-774411",
    "PatientBirthDate": "19640812",
    "StudyDate": "20230417",
    "SeriesDate": "20230417",
    "AcquisitionDate": "20230417",
    "ContentDate": "20230417",
    "StudyTime": "101112",
    "AccessionNumber": "ACC-9981",
    "ReferringPhysicianName": "Doc^Holliday",
    "InstitutionName": "St. Elsewhere",
    # As scanners make them, of the date and time.
    "SeriesInstanceUID": "1.3.12.2.20230417101112.5",
    "SOPInstanceUID": "1.3.12.2.20230417101112.6",
}
SECRETS = ("Muster", "Erika", "774411", "19640812", "20230417", "9981", "Holliday", "Elsewhere")


def shipped(name):
    return pydicom.data.get_testdata_file(name, download=False)


@pytest.fixture
def study(tmp_path):
    """A study on disk: two volumes, an X-ray, a cine loop and a report, in subfolders."""
    folder = tmp_path / "study"
    write_series(folder, names="IM{}", SeriesNumber=4)
    (folder / "a" / "b").mkdir(parents=True)
    for number in range(2):
        other = {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 3, "SeriesDescription": None}
        save(slice_of(number, SOPInstanceUID=f"9.{number}", **other), folder / f"a/{number}")
    save(image_of(XRAY, SOPInstanceUID="8.1", SeriesInstanceUID="8"), folder / "a/b/x")
    cine = {"SOPInstanceUID": "7.1", "SeriesInstanceUID": "7", "Modality": "US", "CineRate": 5}
    save(image_of(CINE, **cine), folder / "a/b/c.dcm")
    shutil.copy(shipped("test-SR.dcm"), folder / "report.dcm")
    shutil.copy(shipped("dicomdirtests/DICOMDIR"), folder / "DICOMDIR")
    (folder / "README.txt").write_text("double-click the viewer")
    return folder


def test_the_series_of_a_study_are_listed(study):
    listed = list_series(study)
    assert [(s.number, s.kind, s.modality, s.description, s.files, s.shape) for s in listed] == [
        (1, "volume", "CT", "", 2, (2, *SIZE)),
        (2, "volume", "CT", "thorax", 4, (4, *SIZE)),
        (3, "video", "US", "chest", 1, (5, 4, 6)),
        (4, "image", "DX", "chest", 1, (6, 8)),
        (5, "other", "SR", "Demonstration of SR Features", 1, ()),
    ]
    assert listed[1].uid == SERIES
    assert SERIES not in repr(listed)


def test_one_of_several_series_is_chosen(study):
    message = (
        r"several series in '.*study': 1: CT without description \(2 files, 2 x 5 x 6\); 2: CT "
        r"thorax \(4 files, 4 x 5 x 6\)\. Choose one by its number, as in series=2 or --series 2\."
    )
    with pytest.raises(ValueError, match=message):
        read_dicom(study)
    for choice in (2, "2", SERIES):
        np.testing.assert_array_equal(read_dicom(study, choice).data[0], stored(0) - 1024.0)
    assert read_dicom(study, 1).shape == (2, *SIZE)
    for choice in (3, "1.2", 0):
        with pytest.raises(ValueError, match=r"There is no such series in .*: 1: CT .*; 2: CT "):
            read_dicom(study, choice)
    assert read_dicom_image(study).shape == (6, 8, 3)
    assert read_cine(study).frames.shape == (5, 4, 6, 3)


def test_a_dicomdir_stands_for_its_folder(study):
    assert list_series(study / "DICOMDIR") == list_series(study)


def test_files_of_another_kind_are_named(tmp_path):
    path = save(image_of(XRAY), tmp_path / "x.dcm")
    message = r"have no volume, but image: DX chest \(1 file, 6 x 8\)\. Use read_dicom_image\."
    with pytest.raises(ValueError, match=message):
        read_dicom(path)
    with pytest.raises(ValueError, match=r"have no video, but image: DX .* Use read_dicom_image"):
        read_cine(path)
    slices = write_series(tmp_path / "s")
    with pytest.raises(ValueError, match=r"have no image, but volume: CT .* Use read_dicom\."):
        read_dicom_image(slices[0])
    report = shipped("test-SR.dcm")
    for read in (read_dicom, read_dicom_image, read_cine, dicom_kind):
        with pytest.raises(ValueError, match=r"no image that can be shown: SR Demonstration of"):
            read(report)


def test_several_images_of_one_series_are_refused(tmp_path):
    for number in range(2):
        save(image_of(XRAY + number, SOPInstanceUID=f"1.{number}"), tmp_path / f"{number}.dcm")
    with pytest.raises(ValueError, match=r"series of '.*' has 2 images\. Pass one file"):
        read_dicom_image(tmp_path)
    np.testing.assert_array_equal(
        read_dicom_image(tmp_path / "1.dcm"), read_dicom_image(tmp_path / "0.dcm")
    )


# ---------------------------------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("changed", "frames", "expected"),
    [
        ({"Modality": "DX"}, 1, "image"),
        ({"Modality": "CR"}, 1, "image"),
        ({"Modality": "MG"}, 1, "image"),
        ({"Modality": "XC"}, 1, "image"),
        ({"Modality": "US"}, 1, "image"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, 1, "image"),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, 1, "image"),
        ({"Modality": "US"}, 5, "video"),
        ({"Modality": "XA"}, 5, "video"),
        ({"Modality": "RF"}, 5, "video"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.4"}, 5, "video"),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, 1, "volume"),
        ({"Modality": "PT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, 1, "volume"),
        ({"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, 5, "volume"),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, 1, "volume"),
        ({"Modality": "RTIMAGE", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.1"}, 1, "image"),
    ],
)
def test_the_kind_follows_from_the_header(tmp_path, changed, frames, expected):
    pixels = XRAY if frames == 1 else CINE
    assert dicom_kind(save(image_of(pixels, **changed), tmp_path / "x")) == expected
    assert dicom_kind(tmp_path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CT_small.dcm", "volume"),
        ("MR_small.dcm", "volume"),
        ("examples_overlay.dcm", "volume"),
        ("examples_ybr_color.dcm", "video"),
        ("examples_palette.dcm", "image"),
        ("examples_jpeg2k.dcm", "image"),
        ("SC_rgb.dcm", "image"),
        ("SC_rgb_rle_2frame.dcm", "video"),
        ("dicomdirtests/77654033/CR1/6154", "image"),
    ],
)
def test_the_kind_of_real_files(name, expected):
    path = shipped(name)
    if path is None:
        pytest.skip(f"{name} is in pydicom-data")
    assert dicom_kind(path) == expected


@pytest.mark.parametrize("name", ["rtstruct", "rtplan", "rtdose", "liver_1frame", "waveform_ecg"])
def test_other_objects_are_no_images(name):
    with pytest.raises(ValueError, match="have no image that can be shown"):
        dicom_kind(shipped(f"{name}.dcm"))


def test_what_is_not_dicom_has_no_kind(tmp_path):
    pytest.importorskip("nibabel")
    from captum_3dcam.io import Volume

    write_nifti(Volume(np.zeros((3, 4, 5)), np.eye(4)), tmp_path / "scan.nii")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "data").write_bytes(b"\x08\x00\x05\x00CS\x02\x00AB" + bytes(300))
    for path in (*tmp_path.iterdir(), tmp_path):
        assert dicom_kind(path) is None
    with pytest.raises(FileNotFoundError):
        dicom_kind(tmp_path / "none")


def test_a_file_without_preamble_and_suffix_is_found(tmp_path):
    """As old archives have them, in each of the three encodings."""
    dataset = pydicom.dcmread(shipped("CT_small.dcm"))
    for implicit, little in ((True, True), (False, True), (False, False)):
        path = tmp_path / f"{implicit}{little}"
        plain = pydicom.Dataset(deepcopy(dataset))
        if not little:
            plain.PixelData = np.frombuffer(plain.PixelData, "<i2").byteswap().tobytes()
            plain.remove_private_tags()
        pydicom.dcmwrite(path, plain, implicit_vr=implicit, little_endian=little)
        assert path.read_bytes()[128:132] != b"DICM"
        assert dicom_kind(path) == "volume"
        expected = dataset.pixel_array * 1.0 - 1024
        np.testing.assert_array_equal(read_dicom(path).data[0], expected)


def test_other_objects_and_damaged_suffixes_are_told_apart(tmp_path):
    """Text that is called .dcm is announced; other text is passed over."""
    write_series(tmp_path / "s")
    (tmp_path / "s" / "more.log").write_text("x" * 500)
    assert read_dicom(tmp_path / "s").shape == (4, *SIZE)
    (tmp_path / "s" / "more.dcm").write_text("x" * 500)
    with pytest.warns(UserWarning, match=r"more.dcm' cannot be read as a DICOM file"):
        assert read_dicom(tmp_path / "s").shape == (4, *SIZE)


# ------------------------------------------------------------------- several patients under a UID


@pytest.mark.parametrize("alternating", [False, True])
@pytest.mark.parametrize(
    ("tag", "values", "part"),
    [
        ("PatientID", ("PID-774411", "PID-9981"), "patient"),
        ("FrameOfReferenceUID", ("1.20230417.1", "1.20230417.2"), "frame of reference"),
    ],
)
def test_one_uid_of_two_patients_or_frames_is_two_series(tmp_path, alternating, tag, values, part):
    for number in range(8):
        first = number % 2 == 0 if alternating else number < 4
        changed = {tag: values[not first], "Rows": SIZE[0]}
        save(slice_of(number, step=None, **changed), tmp_path / f"{number}.dcm")
    message = rf"1: CT thorax \(4 files, 4 x 5 x 6, {part} 1\); 2: CT thorax .*, {part} 2\)\. "
    for choice in (None, SERIES):
        with pytest.raises(ValueError, match=rf"There are several series .*{message}") as caught:
            read_dicom(tmp_path, choice)
        assert not any(value in str(caught.value) for value in values)
    assert not any(value in repr(list_series(tmp_path)) for value in values)
    np.testing.assert_array_equal(read_dicom(tmp_path, 1).data[0], stored(0) - 1024.0)
    second = 1 if alternating else 4
    expected = stored(second) * (1.0 + second) - 1024
    np.testing.assert_array_equal(read_dicom(tmp_path, 2).data[0], expected)


def test_copies_of_two_patients_with_the_same_instance_are_kept(tmp_path):
    for number in range(3):
        for patient in ("A", "B"):
            item = slice_of(number, PatientID=patient)
            save(item, tmp_path / f"{patient}{number}.dcm")
    assert [series.files for series in list_series(tmp_path)] == [3, 3]


def test_slices_without_a_patient_belong_to_the_only_one(tmp_path):
    for number, patient in enumerate(("A", "", None, "A")):
        changed = {} if patient is None else {"PatientID": patient}
        save(slice_of(number, **changed), tmp_path / f"{number}.dcm")
    assert read_dicom(tmp_path).shape == (4, *SIZE)
    save(slice_of(4, PatientID="B"), tmp_path / "4.dcm")
    parts = [(series.part, series.files) for series in list_series(tmp_path)]
    assert parts == [("patient 1", 2), ("no patient", 2), ("patient 2", 1)]


@pytest.mark.parametrize(
    ("tag", "values", "texts"),
    [
        ("SeriesNumber", (3, 12), ("SeriesNumber 3", "SeriesNumber 12")),
        ("EchoTime", (5, 20), ("EchoTime 5.0", "EchoTime 20.0")),
        (
            "ImagePositionPatient",
            ([1, 2, 3], [1, 2, 9]),
            ("first file at (-1.0, -2.0, 3.0) mm RAS", "first file at (-1.0, -2.0, 9.0) mm RAS"),
        ),
    ],
)
def test_series_of_one_description_are_told_apart(tmp_path, tag, values, texts):
    for number, value in enumerate(values):
        uid = f"1.2.{number}"
        changed = {"SeriesInstanceUID": uid, "SOPInstanceUID": uid + ".1", tag: value}
        save(slice_of(0, **{"SeriesNumber": 7, **changed}), tmp_path / f"{number}.dcm")
    listed = [f"CT thorax (1 file, 1 x 5 x 6, {text})" for text in texts]
    assert [*map(str, list_series(tmp_path))] == listed


# -------------------------------------------------------------------------------------- privacy


def broken_files(folder):
    """One file per error, with everything in it that identifies a patient."""
    ct = {**PATIENT, "SeriesDescription": "thorax"}
    yield read_dicom, save(slice_of(0, **ct, PixelSpacing=None), folder / "1.dcm")
    yield read_dicom, save(slice_of(0, **ct, PixelSpacing=[0, 1]), folder / "2.dcm")
    yield read_dicom, save(slice_of(0, **ct, Rows=9000), folder / "3.dcm")
    yield read_dicom, save(slice_of(0, **ct, SliceThickness=None), folder / "4.dcm")
    yield read_dicom, save(slice_of(0, **ct, NumberOfFrames=3), folder / "5.dcm")
    yield read_dicom, save(slice_of(0, **ct, RescaleSlope=np.inf), folder / "6.dcm")
    yield read_dicom, save(image_of(XRAY, **ct), folder / "7.dcm")
    yield read_cine, save(image_of(CINE, **ct), folder / "8.dcm")
    yield read_dicom_image, save(image_of(XRAY, **ct, Rows=9000), folder / "9.dcm")
    for number in range(6):
        other = {**ct, "SOPInstanceUID": f"1.{number}", "EchoTime": number // 3}
        save(slice_of(number % 3, **other), folder / f"echoes{number}")
    yield read_dicom, [folder / f"echoes{number}" for number in range(6)]
    for number in (0, 1, 3, 4):
        save(slice_of(number, **{**ct, "SOPInstanceUID": f"1.{number}"}), folder / f"gap{number}")
    yield read_dicom, [folder / f"gap{number}" for number in (0, 1, 3, 4)]
    other = {**ct, "SeriesInstanceUID": "1.3.12.2.20230417101112.7", "SOPInstanceUID": "3"}
    save(slice_of(0, **other), folder / "series")
    yield read_dicom, [folder / "series", folder / "gap0"]
    truncated = (folder / "1.dcm").read_bytes()[:700]
    (folder / "cut.dcm").write_bytes(truncated)
    yield read_dicom, folder / "cut.dcm"


def test_no_error_and_no_listing_names_the_patient(tmp_path, recwarn):
    texts = []
    for read, source in broken_files(tmp_path):
        with pytest.raises(ValueError, match=".") as caught:
            read(source)
        texts.append(str(caught.value))
        if isinstance(source, list) or source.name != "cut.dcm":
            texts += [repr(list_series(source)), *map(str, list_series(source))]
    assert len({text.replace(str(tmp_path), "") for text in texts}) > 15
    for text in [*texts, *(str(warning.message) for warning in recwarn)]:
        assert not any(secret in text for secret in SECRETS), text


def test_the_volume_keeps_nothing_of_the_patient(tmp_path):
    volume = read_dicom(save(slice_of(0, **PATIENT), tmp_path / "x"))
    assert not any(secret in repr(vars(volume)) for secret in SECRETS)
    assert Path(tmp_path / "x").is_file()
