"""Paths to the shared real files, and small DICOM, NIfTI and slide files written at test time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "medicine"


@pytest.fixture
def real() -> Path:
    """The folder of real medical files beside the repository."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not on this machine: the real files are not part of the repository")
    return REAL


@pytest.fixture
def write_dicom(tmp_path: Path):
    """write_dicom(name, pixels, **attributes) -> path of a small uncompressed DICOM; an attribute set to None is left out."""
    pydicom = pytest.importorskip("pydicom")

    def write(name: str, pixels: np.ndarray, **attributes: Any) -> Path:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        frames = pixels.shape[0] if pixels.ndim == 3 and pixels.shape[-1] != 3 else 1
        rows, columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[:2]
        given: dict[str, Any] = {
            "SOPClassUID": CTImageStorage, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID, "StudyInstanceUID": generate_uid(),
            "Modality": "CT", "BodyPartExamined": "CHEST", "PatientName": "ANON", "PatientID": "", "Rows": rows, "Columns": columns,
            "SamplesPerPixel": 3 if pixels.shape[-1] == 3 else 1, "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": pixels.itemsize * 8, "BitsStored": pixels.itemsize * 8, "HighBit": pixels.itemsize * 8 - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"), "PixelData": pixels.tobytes(), **attributes,
        }  # fmt: skip
        if frames > 1:
            given["NumberOfFrames"] = frames
        if given["SamplesPerPixel"] == 3:
            given["PlanarConfiguration"] = 0
        for key, value in given.items():
            if value is not None:
                setattr(dataset, key, value)
        path = tmp_path / name
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_nifti(tmp_path: Path):
    """write_nifti(name, voxels, affine or None) -> path of a NIfTI; without an affine both form codes are 0."""
    nibabel = pytest.importorskip("nibabel")

    def write(name: str, voxels: np.ndarray, affine: np.ndarray | None) -> Path:
        image = nibabel.Nifti1Image(voxels, affine)
        if affine is None:
            image.header["qform_code"], image.header["sform_code"] = 0, 0
        nibabel.save(image, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_aperio(tmp_path: Path):
    """write_aperio(name, with_label) -> path of a small Aperio slide, with a label image on request."""
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("openslide")

    def write(name: str, *, with_label: bool) -> Path:
        rng = np.random.default_rng(0)
        pixels = rng.integers(120, 220, (512, 512, 3), dtype=np.uint8)
        path = tmp_path / name
        head = "Aperio Image Library v1.0\r\n"
        with tifffile.TiffWriter(path) as writer:
            form: dict[str, Any] = {"photometric": "rgb", "metadata": None}
            writer.write(
                pixels, tile=(256, 256), description=f"{head}512x512 [0,0 512x512] (256x256) |AppMag = 20|MPP = 0.5", **form
            )
            writer.write(pixels[::4, ::4].copy(), description=f"{head}512x512 -> 128x128 - |AppMag = 20", rowsperstrip=16, **form)
            if with_label:
                label = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
                writer.write(label, description=f"{head}label 96x64", subfiletype=1, rowsperstrip=16, **form)
        return path

    return write
