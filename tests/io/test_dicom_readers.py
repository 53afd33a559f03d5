"""Each kind of DICOM file of the study is read as the standard, and other readers, have it."""

import os
import shutil
import warnings

import numpy as np
import pytest

from captum_3dcam.io import dicom_kind, list_series, read_dicom

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")
from _dicom_cases import CASES, Expected, enhanced_ct, file_of, nicom_file, series
from _dicom_damage import damage_rows
from dicom_readers import (
    READERS,
    difference,
    judge,
    main,
    read_captum_3dcam,
)


def make(name, folder):
    """The files of a case and the expected volume."""
    if "JPEG" in name:
        pytest.importorskip("SimpleITK")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return CASES[name](folder)
        except FileNotFoundError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_read_right_or_refused(name, tmp_path):
    expected = make(name, tmp_path)
    assert judge(read_captum_3dcam, tmp_path, expected) == "right"
    assert dicom_kind(tmp_path) == "volume"
    assert list_series(tmp_path)[0].kind == "volume"


AGREE = {
    "SimpleITK": ["series, unordered", "series, oblique", "series, a rescale slope per slice"],
    "dcm2niix": [
        "series, unordered",
        "series, oblique",
        "series, two acquisitions, real",
        "duplicated slices",
        "no preamble, no suffix",
        "Siemens mosaic",
        "enhanced MR, Philips",
        "enhanced CT",
    ],
    "highdicom": ["enhanced MR", "enhanced CT", "enhanced MR, Philips", "series, oblique"],
    "nibabel": ["Siemens mosaic", "enhanced MR, Philips", "single slice, MR"],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library, names in AGREE.items() for name in names]
)
def test_other_readers_agree(library, name, tmp_path):
    pytest.importorskip(library)
    make(name, tmp_path)
    read = dict(READERS.values())[library]
    assert difference(read_captum_3dcam(tmp_path), read(tmp_path)) == ""


@pytest.mark.filterwarnings("ignore")
def test_dcm2niix_keeps_the_values_of_monochrome1_as_well(tmp_path):
    """Which the standard's modality transformation does, and SimpleITK and highdicom do not."""
    pytest.importorskip("dcm2niix")
    expected = series(PhotometricInterpretation="MONOCHROME1", Modality="MR")(tmp_path)
    assert difference(read_captum_3dcam(tmp_path), expected) == ""
    assert difference(dict(READERS.values())["dcm2niix"](tmp_path), expected) == ""


@pytest.mark.filterwarnings("ignore")
def test_the_pixels_of_ct_are_simpleitks(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    series()(tmp_path)
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(files))
    np.testing.assert_array_equal(read_dicom(tmp_path).data, expected)


@pytest.mark.filterwarnings("ignore")
def test_time_points_in_mosaics_are_listed(tmp_path):
    for name, source in (("b.dcm", "siemens_dwi_0.dcm.gz"), ("a.dcm", "siemens_dwi_1000.dcm.gz")):
        (tmp_path / name).write_bytes(nicom_file(source))
    message = r"several volumes: 0: AcquisitionNumber 1; 1: AcquisitionNumber 2\. Pass index="
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)
    for index, name in enumerate(("b.dcm", "a.dcm")):
        volume, expected = read_dicom(tmp_path, index=index), read_dicom(tmp_path / name)
        np.testing.assert_array_equal(volume.data, expected.data)
    assert read_dicom(tmp_path, index="all").channels == 2


def test_a_mosaic_without_its_header_is_refused_by_name(tmp_path):
    """The scanner's private header says where the slices are, and anonymizers remove it."""
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "m.dcm").write_bytes(nicom_file("siemens_dwi_0.dcm.gz"))
    dataset = pydicom.dcmread(tmp_path / "m.dcm")
    dataset.remove_private_tags()
    dataset.save_as(tmp_path / "m.dcm")
    message = r"m.dcm' cannot be read as a Siemens mosaic: .*Convert it with dcm2niix"
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_mosaics_of_one_acquisition_are_in_the_order_of_their_instances(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    for instance, name in ((2, "a"), (10, "b"), (1, "c")):
        (tmp_path / name).write_bytes(nicom_file("siemens_dwi_0.dcm.gz"))
        item = pydicom.dcmread(tmp_path / name)
        item.InstanceNumber, item.SOPInstanceUID = instance, f"1.2.{instance}"
        item.RescaleSlope, item.RescaleIntercept = 1, instance
        item.save_as(tmp_path / name)
    message = r"0: AcquisitionNumber 1, InstanceNumber 1; 1: Acq.* 2; 2: .*, InstanceNumber 10\."
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)
    volumes = read_dicom(tmp_path, index="all").data
    assert (volumes[1] - volumes[0] == 1).all()
    assert (volumes[2] - volumes[0] == 9).all()


@pytest.mark.parametrize("name", ["0.dcm", "1.dcm"])
def test_a_mosaic_whose_tiles_do_not_fill_it_is_refused(tmp_path, name):
    """Their pixels were replaced by a ramp, and 48 slices of their matrix of 128 x 128 are more."""
    (tmp_path / "m.dcm").write_bytes(nicom_file(name))
    message = r"m.dcm' cannot .* its 256 x 256 pixels are not 7 x 7 equal tiles, as 48 slices need"
    with pytest.raises(ValueError, match=message):
        read_dicom(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_echoes_of_an_enhanced_file_are_listed(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    try:
        enhanced_ct(tmp_path)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    path = tmp_path / "eCT_Supplemental.dcm"
    expected = read_dicom(path)
    dataset = pydicom.dcmread(path)
    frames = dataset.PerFrameFunctionalGroupsSequence
    groups = []
    for number in range(4):
        group = pydicom.Dataset()
        group.PlanePositionSequence = frames[number % 2].PlanePositionSequence
        content = pydicom.Dataset()
        content.TemporalPositionIndex = 1 + number // 2
        group.FrameContentSequence = [content]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = groups, 4
    first = np.frombuffer(dataset.PixelData, np.uint16)
    dataset.PixelData = np.concatenate([first, first + 100]).tobytes()
    dataset.save_as(path)
    message = r"0: TemporalPositionIndex 1 \(2 slices of 512 x 512 pixels\); 1: TemporalPosition"
    with pytest.raises(ValueError, match=message):
        read_dicom(path)
    np.testing.assert_array_equal(read_dicom(path, index=0).data, expected.data)
    np.testing.assert_array_equal(read_dicom(path, index=1).data, expected.data + 100)


def test_a_tree_of_real_studies(tmp_path):
    """The folder that pydicom ships, with several patients, modalities and files of no image."""
    tree = tmp_path / "tree"
    shutil.copytree(file_of("dicomdirtests/DICOMDIR").parent, tree)
    message = r"50 DICOM files are damaged .*TINY_ALPHA.*damaged: it is an image, but has no Rows"
    with pytest.warns(UserWarning, match=message):  # headers alone
        listed = list_series(tree)
    with pytest.warns(UserWarning, match=message):
        assert list_series(tree / "DICOMDIR") == listed
    with pytest.raises(ValueError, match=r"TINY_ALPHA.*damaged: it is an image, but has no Rows"):
        list_series(tree / "TINY_ALPHA")
    shutil.rmtree(tree / "TINY_ALPHA")
    assert list_series(tree) == listed
    kinds = [(each.kind, each.modality) for each in listed]
    assert kinds.count(("image", "CR")) == 3
    assert {modality for kind, modality in kinds if kind == "volume"} == {"CT", "MR"}
    (scan,) = (each for each in listed if each.shape == (5, 16, 16) and each.modality == "CT")
    volume = read_dicom(tree, scan.number)
    assert volume.spacing[0] == pytest.approx(2.5)


def test_the_study_tells_wrong_from_right(tmp_path):
    expected = series()(tmp_path)

    def flipped(folder):
        received = read_captum_3dcam(folder)
        return Expected(received.data[::-1], received.affine)

    assert judge(flipped, tmp_path, expected) == "**wrong** (values)"
    assert judge(lambda _: expected._replace(affine=np.eye(4)), tmp_path, expected) == (
        "**wrong** (geometry)"
    )
    assert judge(lambda _: 1 / 0, tmp_path, expected) == "refused (ZeroDivisionError)"
    assert judge(read_captum_3dcam, tmp_path, Expected()) == "**wrong** (read unmentioned)"


@pytest.mark.filterwarnings("ignore")
def test_the_study_prints_its_table(monkeypatch, capsys):
    monkeypatch.setattr("dicom_readers.CASES", {"series, unordered": series()})
    main([])
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.startswith("| | this package |")
    assert row.startswith("| series, unordered | right |")


@pytest.mark.filterwarnings("ignore")
def test_the_study_counts_what_damaged_files_lead_to(monkeypatch, capsys):
    rows = damage_rows({"a": lambda _: None, "b": lambda _: 1 / 0, "c": lambda _: os.abort()}, 2)
    assert next(rows) == ["JPEG", "2 read", "2 refused", "2 **ended the process**"]
    pytest.importorskip("SimpleITK")
    monkeypatch.setattr("_dicom_damage.FILES", {"JPEG": "SC_rgb_jpeg_dcmtk.dcm"})
    main(["--damaged", "3"])
    assert "ended" not in capsys.readouterr().out.split("|")[7]
