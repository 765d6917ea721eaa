"""DICOM, NIfTI and slides: what is shown, and the message for each thing that is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from factory.contracts import DataRequest, Media
from factory.domains.medicine import PACK
from factory.domains.medicine import dicom as dicom_files
from factory.domains.medicine.loaders import LOADER
from factory.domains.medicine.phi import is_identifying, slide_identifiers
from factory.errors import DataError

ALL_TRAIN = {"splits": {"validation": 0.0, "test": 0.0}, "shuffle_buffer": 1}
RAMP = np.arange(16 * 16, dtype=np.int16).reshape(16, 16)


README = (Path(__file__).parents[3] / "domains" / "medicine" / "README.md").read_text(encoding="utf-8")


def documented(reason: str) -> bool:
    """Whether the README's table has the beginning of this message."""
    starts = [
        cell.strip("` ") for line in README.splitlines() if line.startswith("| a") for cell in line.split("|")[2].split(" or ")
    ]
    return any(reason.partition(": ")[2].startswith(start) for start in starts if start)


def fault(path: Path, **options: Any) -> str:
    report = LOADER.check(DataRequest(paths=(str(path),), options={**ALL_TRAIN, **options}))
    assert report.num_good == 0 and report.num_bad == 1, report.to_json()
    return f"{report.first_bad[0].field}: {report.first_bad[0].reason}"


def shown(media: Media) -> np.ndarray:
    with Image.open(io.BytesIO(media.read())) as image:
        return np.asarray(image)[..., 0].astype(int)


def picture(path: Path, frame: str = "middle") -> np.ndarray:
    return shown(dicom_files.picture(path, frame=frame, longest=512))


def test_dicom_becomes_a_text_and_a_question(write_dicom):
    path = write_dicom("a.dcm", RAMP)
    request = DataRequest(paths=(str(path),), options=ALL_TRAIN)
    [document], [sample] = list(PACK.corpus("train", 0, request)), list(PACK.samples("train", 0, request))
    assert document.text == "<image>\nmodality ct ; body part chest"
    assert (sample.task, sample.reference, len(sample.media)) == ("closed", "ct", 1)
    assert "phi" not in sample.meta


def test_window_is_applied(write_dicom):
    # window 100 +- 20: below 80 black, above 120 white, 100 in the middle
    image = picture(write_dicom("w.dcm", RAMP, WindowCenter=100, WindowWidth=40))
    flat = image.ravel()
    assert flat[70] == 0 and flat[130] == 255 and abs(flat[100] - 128) <= 4


def test_rescale_comes_before_the_window(write_dicom):
    # stored 0..255, slope 2, intercept -200: stored 150 is 100 units
    image = picture(write_dicom("r.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-200, WindowCenter=100, WindowWidth=40))
    assert abs(image.ravel()[150] - 128) <= 8 and image.ravel()[135] == 0 and image.ravel()[165] == 255


def test_monochrome1_is_inverted(write_dicom):
    plain, inverted = (
        picture(write_dicom("p.dcm", RAMP)),
        picture(write_dicom("i.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")),
    )
    assert np.abs(plain + inverted - 255).max() <= 1


def test_colour_is_kept(write_dicom):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[..., 2] = 200
    media = dicom_files.picture(write_dicom("c.dcm", pixels, PhotometricInterpretation="RGB"), frame="middle", longest=512)
    with Image.open(io.BytesIO(media.read())) as image:
        assert image.getpixel((3, 3)) == (0, 0, 200)


@pytest.mark.parametrize(("frame", "want"), [("first", 0), ("middle", 2), ("last", 3), ("2", 1)])
def test_frame_of_several(write_dicom, frame, want):
    frames = np.stack([np.full((8, 8), 60 * index, np.uint8) for index in range(4)])
    frames[:, 0, 0], frames[:, 0, 1] = 0, 240
    path = write_dicom("m.dcm", frames)
    whole = picture(path, frame)
    assert abs(whole[4, 4] - round(60 * want * 255 / 240)) <= 1


def test_a_frame_that_is_not_there_is_named(write_dicom):
    path = write_dicom("m.dcm", np.zeros((3, 8, 8), np.uint8))
    assert "3 frames" in fault(path, frame="9")


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"PatientName": "Doe^Jane"}, "PatientName"),
        ({"PatientID": "4711"}, "PatientID"),
        ({"AccessionNumber": "A-1"}, "AccessionNumber"),
        ({"InstitutionName": "City Hospital"}, "InstitutionName"),
        ({"BurnedInAnnotation": "YES"}, "burned-in text"),
    ],
)
def test_identifiers_are_refused_with_the_remedy(write_dicom, attributes, named):
    said = fault(write_dicom("phi.dcm", RAMP, **attributes))
    assert said.startswith(f"phi: identifies a patient: {named}.") and documented(said)
    assert "dicognito" in said and "pack.phi=allow" in said
    assert "Doe" not in said and "4711" not in said


def test_a_build_stops_at_identifiers(write_dicom):
    path = write_dicom("phi.dcm", RAMP, PatientName="Doe^Jane")
    with pytest.raises(DataError, match="PatientName") as caught:
        list(PACK.samples("train", 0, DataRequest(paths=(str(path),), options=ALL_TRAIN)))
    assert caught.value.exit_code == 3


def test_allowed_identifiers_are_recorded_without_their_values(write_dicom):
    path = write_dicom("phi.dcm", RAMP, PatientName="Doe^Jane")
    [sample] = PACK.samples("train", 0, DataRequest(paths=(str(path),), options={**ALL_TRAIN, "phi": "allow"}))
    assert sample.meta["phi"] == "allowed: PatientName"
    assert "Doe" not in json.dumps(sample.to_json())


def test_images_of_one_patient_share_a_group_that_does_not_name_the_patient(write_dicom):
    groups = set()
    for name in ("a.dcm", "b.dcm"):  # two studies
        path = write_dicom(name, RAMP, PatientID="ANON7")
        [sample] = PACK.samples("train", 0, DataRequest(paths=(str(path),), options=ALL_TRAIN))
        groups.add(sample.meta["group"])
    assert len(groups) == 1 and "ANON7" not in groups.pop()


def test_volumes_of_one_subject_share_a_group(write_nifti):
    groups = set()
    for name in ("sub-01_T1w.nii", "sub-01_T2w.nii"):
        path = write_nifti(name, halves(), np.eye(4))
        groups |= {s.meta["group"] for s in PACK.samples("train", 0, DataRequest(paths=(str(path),), options=ALL_TRAIN))}
    assert groups == {"patient=sub-01"}


def test_private_tags_and_nested_names_are_found(write_dicom):
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    path = write_dicom("n.dcm", RAMP)
    dataset = dcmread(path)
    item = Dataset()
    item.OperatorsName = "Roe^Rick"
    dataset.RequestAttributesSequence = Sequence([item])
    block = dataset.private_block(0x0011, "VENDOR", create=True)
    block.add_new(0x01, "LO", "note")
    dataset.save_as(path, enforce_file_format=True)
    assert "OperatorsName, private tags" in fault(path)


@pytest.mark.parametrize("value", ["", "  ", "ANON", "Anonymous^Patient", "anonymized_17", "REMOVED", "^^", None])
def test_values_that_say_nothing_do_not_identify(value):
    assert not is_identifying(value)


def test_encrypted_attributes_are_named(write_dicom):
    from pydicom import dcmread
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    path = write_dicom("e.dcm", RAMP)
    dataset = dcmread(path)
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = "1.2.840.10008.1.2.1"
    item.EncryptedContent = b"\x30\x82\x01\x00"
    dataset.EncryptedAttributesSequence = Sequence([item])
    dataset.save_as(path, enforce_file_format=True)
    assert documented(fault(path)) and "Decrypt it" in fault(path)


def test_an_encrypted_envelope_is_named(tmp_path):
    path = tmp_path / "cms.dcm"
    path.write_bytes(b"\x30\x82\x04\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03" + bytes(range(256)) * 3)
    assert documented(fault(path)) and "a CMS envelope" in fault(path)


def test_a_deflated_dicom_is_read_and_a_bomb_is_not_unpacked(write_dicom, tmp_path, monkeypatch):
    import zlib

    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    from factory.domains.medicine import dicom

    path = write_dicom("plain.dcm", RAMP)
    wanted = dicom.picture(path, frame="first", longest=64).read()
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    small = tmp_path / "small.dcm"
    dataset.save_as(small, enforce_file_format=True)
    assert dicom.picture(small, frame="first", longest=64).read() == wanted
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(stream.compress(bytes(1 << 24)) for _ in range(64)) + stream.flush()
    whole = small.read_bytes()
    start = dicom.META_START + int(dcmread(small).file_meta.FileMetaInformationGroupLength)
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(whole[:start] + body)
    assert bomb.stat().st_size < 2 << 20

    def unpack(*_, **__):
        raise AssertionError("pydicom unpacks it whole")

    monkeypatch.setattr("pydicom.dcmread", unpack)
    assert documented(fault(bomb)) and "decompression bomb" in fault(bomb)


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9, 0.98])
def test_a_truncated_dicom_is_named(write_dicom, share):
    path = write_dicom("t.dcm", np.tile(RAMP, (4, 4)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert documented(fault(path)), fault(path)


def test_other_files_are_named(tmp_path, write_dicom):
    (tmp_path / "x.dcm").write_bytes(b"no dicom at all, just text" * 30)
    assert documented(fault(tmp_path / "x.dcm"))
    (tmp_path / "z.dcm").write_bytes(b"")
    assert "is empty" in fault(tmp_path / "z.dcm")
    assert "without pixels" in fault(write_dicom("sr.dcm", RAMP, PixelData=None))


def test_tables_may_name_dicoms(write_dicom, tmp_path):
    path = write_dicom("a.dcm", RAMP)
    table = tmp_path / "q.jsonl"
    table.write_text(json.dumps({"image": "a.dcm", "question": "Is it CT?", "answer": "yes"}) + "\n")
    options = {**ALL_TRAIN, "image_root": str(tmp_path)}
    [sample] = PACK.samples("train", 0, DataRequest(paths=(str(table),), options=options))
    assert sample.task == "judgement" and shown(sample.media[0]).shape == (16, 16)
    assert "set pack.image_root" in fault(table)
    write_dicom(path.name, RAMP, PatientName="Doe^Jane")
    assert "PatientName" in fault(table, image_root=str(tmp_path))


def halves() -> np.ndarray:
    """[8, 10, 6] voxels, bright where the first axis is 4 or more."""
    voxels = np.zeros((8, 10, 6), np.float32)
    voxels[4:] = 100
    return voxels


def test_nifti_gives_planes_and_a_text(write_nifti):
    path = write_nifti("v.nii.gz", halves(), np.diag([2.0, 2.0, 2.0, 1.0]))
    request = DataRequest(paths=(str(path),), options=ALL_TRAIN)
    samples = list(PACK.samples("train", 0, request))
    assert [sample.reference for sample in samples] == ["sagittal", "coronal", "axial"]
    assert samples[0].meta["orientation"] == "RAS" and samples[0].meta["spacing_mm"] == [2.0, 2.0, 2.0]
    [document] = PACK.corpus("train", 0, request)
    assert "orientation RAS" in document.text


@pytest.mark.parametrize("first_axis", [1.0, -1.0])
def test_the_affine_decides_which_side_is_left(write_nifti, first_axis):
    # stored bright at high index: the patient's right when the first axis points right, else the left
    path = write_nifti("v.nii", halves(), np.diag([first_axis, 1.0, 1.0, 1.0]))
    from factory.domains.medicine import nifti

    axial = shown(nifti.picture(path, plane="axial", longest=512))
    # the patient's right is shown on the left of the picture
    bright_half = "left" if axial[:, :4].mean() > axial[:, 4:].mean() else "right"
    assert bright_half == ("left" if first_axis > 0 else "right")


def test_unequal_spacing_is_evened_out(write_nifti):
    from factory.domains.medicine import nifti

    path = write_nifti("v.nii", halves(), np.diag([1.0, 1.0, 3.0, 1.0]))
    right, front, up = halves().shape
    assert shown(nifti.picture(path, plane="coronal", longest=512)).shape[:2] == (3 * up, right)
    assert shown(nifti.picture(path, plane="axial", longest=512)).shape[:2] == (front, right)
    assert max(shown(nifti.picture(path, longest=16)).shape[:2]) == 16


def test_long_thin_voxels_take_no_more_memory_than_the_picture(write_nifti):
    from factory.domains.medicine import nifti

    path = write_nifti("v.nii", halves(), np.diag([1e-3, 1e3, 1.0, 1.0]))
    assert max(shown(nifti.picture(path, longest=64)).shape[:2]) <= 64


def test_a_nifti_without_affine_is_refused(write_nifti):
    said = fault(write_nifti("n.nii", halves(), None))
    assert documented(said) and "left and right cannot be told" in said and "dcm2niix" in said


def test_a_nifti_whose_axes_lie_in_a_plane_is_refused(write_nifti):
    from factory.domains.medicine import nifti

    axes = np.diag([1.0, 1.0, 1.0, 1.0])
    axes[:3, 2] = [0.7, 0.7, 1e-4]
    assert "affine" in fault(write_nifti("p.nii", halves(), axes))
    axes[2, 2] = 0.2  # a tilted stack is not flat
    assert nifti.read_header(write_nifti("tilted.nii", halves(), axes))["shape"]


def test_a_truncated_nifti_is_named(write_nifti):
    path = write_nifti("t.nii", halves(), np.eye(4))
    path.write_bytes(path.read_bytes()[:600])
    assert documented(fault(path)), fault(path)


def test_a_slide_with_a_label_is_refused_with_the_remedy(write_aperio):
    said = fault(write_aperio("s.svs", with_label=True))
    assert documented(said) and "label image" in said and "wsi-anon" in said and "pack.phi=allow" in said


def test_a_slide_without_label_is_read(write_aperio):
    path = write_aperio("s.svs", with_label=False)
    [document] = PACK.corpus("train", 0, DataRequest(paths=(str(path),), options={**ALL_TRAIN, "image_px": 64}))
    assert document.text == "<image>\nmodality histology" and shown(document.media[0]).shape == (64, 64)


def test_identifying_slide_properties_are_found():
    found = slide_identifiers(
        {"aperio.User": "jdoe", "hamamatsu.Patient ID": "12", "aperio.MPP": "0.5", "philips.barcode": ""}, ("thumbnail", "Macro")
    )
    assert found == ["macro image", "aperio.User", "hamamatsu.Patient ID"]
