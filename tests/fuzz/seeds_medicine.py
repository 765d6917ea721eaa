"""Small good files of medicine and pathology: scans, slides, pictures."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pack_targets import PackTarget
from seeds_science import zipped


def dicom(**attributes: Any) -> bytes:
    """A DICOM of 8 x 8 pixels, little endian with explicit types."""
    import numpy as np
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        CTImageStorage,
        "1.2.3.4",
        ExplicitVRLittleEndian,
    )
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    pixels = (np.arange(64, dtype=np.uint16) * 50).reshape(8, 8)
    given = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.3.4", "StudyInstanceUID": "1.2.3", "Modality": "CT", "BodyPartExamined": "CHEST",
        "PatientName": "ANON", "PatientID": "", "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": 8, "Columns": 8,
        "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "WindowCenter": "400", "WindowWidth": "900",
        "RescaleSlope": "1.5", "RescaleIntercept": "-100", "PixelData": pixels.tobytes(), **attributes,
    }  # fmt: skip
    for key, value in given.items():
        setattr(dataset, key, value)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _dicoms(_: Path) -> list[bytes]:
    import numpy as np
    from pydicom.uid import RLELossless

    frames = {
        "NumberOfFrames": 2,
        "PixelData": np.arange(128, dtype=np.uint16).tobytes(),
        "PhotometricInterpretation": "MONOCHROME1",
    }
    colour = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
    }
    plain = dicom()
    packed = io.BytesIO()
    from pydicom import dcmread

    squeezed = dcmread(io.BytesIO(plain))
    squeezed.compress(RLELossless, generate_instance_uid=False)
    squeezed.save_as(packed, enforce_file_format=True)
    return [plain, dicom(**frames), dicom(**colour, PixelData=bytes(range(192))), packed.getvalue()]


def nifti(shape: tuple[int, ...] = (6, 5, 4), kind: str = "int16") -> bytes:
    """A volume with an affine that flips and scales."""
    import nibabel
    import numpy as np

    voxels = np.arange(int(np.prod(shape)), dtype=kind).reshape(shape)
    return nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 2.0, 1.0])).to_bytes()


def _niftis(_: Path) -> list[bytes]:
    return [nifti(), nifti((4, 4, 3, 2), "float32")]


def slide() -> bytes:
    """An Aperio-like TIFF of 128 x 128 px with one level below; its tissue is pink. Small, so that changes often meet its directories."""
    import numpy as np
    import tifffile

    rng = np.random.default_rng(0)
    pixels = rng.integers([180, 60, 120], [230, 110, 180], (128, 128, 3)).astype(np.uint8)
    out, head, form = io.BytesIO(), "Aperio Image Library v1.0\r\n", {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(out) as writer:
        writer.write(pixels, tile=(64, 64), description=f"{head}128x128 [0,0 128x128] (64x64) |AppMag = 20|MPP = 0.5", **form)
        writer.write(pixels[::4, ::4].copy(), tile=(32, 32), description=f"{head}128x128 -> 32x32 |AppMag = 20", **form)
    return out.getvalue()


def _beside_slide(_: Path) -> Mapping[str, bytes]:
    return {"s1.svs": slide(), "labels.csv": b"slide_id,label,patient_id\ns1,tumour,p1\ns2,normal,p2\n", "s2.svs": slide()}


def picture(form: str, **how: Any) -> bytes:
    """A small picture in one of Pillow's formats."""
    from PIL import Image

    out = io.BytesIO()
    Image.radial_gradient("L").resize((24, 20)).convert("P" if form == "GIF" else "RGB").save(out, form, **how)
    return out.getvalue()


def _pictures(_: Path) -> list[bytes]:
    plain = [picture(form) for form in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")]
    return [*plain, picture("TIFF", compression="tiff_lzw"), picture("JPEG", progressive=True)]


def _rows_of_pictures(_: Path) -> Mapping[str, bytes]:
    return {
        "rows.jsonl": b'{"image": "p.bin", "question": "What is it?", "answer": "tumour"}\n{"image_path": "p.bin", "caption": "a figure"}\n'
    }


def _shard(_: Path) -> list[bytes]:
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (
            ("a.png", picture("PNG")),
            ("a.txt", b"a caption"),
            ("b.jpg", picture("JPEG")),
            ("b.json", b'{"caption": "b"}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return [out.getvalue()]


def _parquet(_: Path) -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    rows = [{"image": {"bytes": picture("PNG"), "path": "a.png"}, "question": "What?", "answer": "tumour"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out, compression="NONE")
    return [out.getvalue()]


def _image_table(_: Path) -> Mapping[str, bytes]:
    return {"rows.csv": b"image,question,answer\nscans/a.dcm,What is it?,a lung\nscans/v.nii.gz,What is it?,a brain\n", "scans/a.dcm": dicom(),
            "scans/v.nii.gz": gzip.compress(nifti(), mtime=0)}  # fmt: skip


PUBMEDQA = {"1": {"QUESTION": "Is it?", "CONTEXTS": ["a", "b"], "LONG_ANSWER": "so", "final_decision": "yes", "LABELS": ["x"]}}
MMLU = b'What is it?,a,b,c,d,B\n"Which, then?",e,f,g,h,A\n'
CODES = b"code,text\nI10,x\nE11.9,y\n"


def _pubmedqa(_: Path) -> Mapping[str, bytes]:
    return {"ori_pqal.json": json.dumps(PUBMEDQA).encode(), "test_ground_truth.json": b'{"1": "yes", "2": "no"}', "anatomy_test.csv": MMLU,
            "../codes.csv": CODES, "icd.csv": b"code,description\nI10,high pressure\n"}  # fmt: skip


def tiff_header(_: Path) -> list[bytes]:
    """A TIFF of one strip whose directory is all there is: what mutation changes is the directory."""
    entries = [
        (256, 3, 1, 8),
        (257, 3, 1, 8),
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 134),
        (278, 3, 1, 8),
        (279, 4, 1, 64),
    ]
    entries += [(282, 4, 1, 1), (283, 4, 1, 1)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return [struct.pack("<2sHI", b"II", 42, 8) + directory + bytes(range(64))]


SMALL = {"tile_px": 64, "tile_mpp": 0.5, "tiles_per_slide": 2}
TARGETS: dict[str, PackTarget] = {
    "medicine_dicom": PackTarget("medicine", "x.dcm", _dicoms, needs=("pydicom",)),
    "medicine_nifti": PackTarget("medicine", "x.nii", _niftis, needs=("nibabel", "monai")),
    "medicine_slide": PackTarget("medicine", "x.svs", lambda _: [slide()], needs=("openslide", "tifffile")),
    "medicine_sets": PackTarget("medicine", "", lambda _: (), files=_pubmedqa, options={"code_table": "{folder}/codes.csv"}),
    "medicine_images": PackTarget("medicine", "", lambda _: (), files=_image_table, needs=("pydicom", "nibabel", "monai"),
                                  options={"image_root": "{folder}/data"}),
    "pathology_slide": PackTarget("pathology", "", lambda _: (), files=_beside_slide, needs=("openslide", "tifffile"), options=SMALL),
    "pathology_image": PackTarget("pathology", "p.bin", _pictures, files=_rows_of_pictures),
    "pathology_tiff": PackTarget("pathology", "p.bin", tiff_header, files=_rows_of_pictures),
    "pathology_shard": PackTarget("pathology", "x.tar", _shard),
    "pathology_parquet": PackTarget("pathology", "x.parquet", _parquet),
    "pathology_csv": PackTarget("pathology", "x.csv", zipped(b"question,options,answer,explanation\nWhich?,A. a B. b,A,because\n")),
}  # fmt: skip
