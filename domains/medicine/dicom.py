"""DICOM files as pictures: modality and VOI LUT, photometric interpretation, frames; encrypted and damaged files named.

pydicom does the scaling (hand scaling of pixel values is the classic error). It is in the extra `medicine`.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from factory.contracts import Media
from factory.data.files import Bounded, refuse_impostor
from factory.data.rows import RowFault
from factory.domains.medicine.pictures import to_png
from factory.errors import PluginError

ENVELOPED = ("EncryptedAttributesSequence",)
"""Attributes of a file whose identifiers were encrypted for later recovery (PS3.15 E)."""
CMS = b"\x30"
"""First byte of a DER object: a CMS envelope (secure DICOM file, PS3.15 D)."""
MAX_PIXELS = 2**29
"""Values of all frames that compressed pixels may unpack to: a tomosynthesis has three hundred million."""
MAX_DEFLATED = 512 << 20
"""Bytes that a deflated data set may unpack to."""
CHUNK = 1 << 16
META_START = 144
"""Bytes before what the group length of the file meta information counts: preamble, `DICM` and that element (PS3.10, 7.1)."""
MODALITIES = {
    "CT": "ct", "MR": "mri", "CR": "xray", "DX": "xray", "RG": "xray", "RF": "xray", "MG": "mammography", "US": "ultrasound", "OP": "fundus",
    "OPT": "oct", "ES": "endoscopy", "SM": "histology", "NM": "scintigraphy", "PT": "pet", "XA": "angiography",
}  # fmt: skip
"""Modality (0008,0060) -> the pack's word."""


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as err:
        raise PluginError("DICOM needs pydicom, which is not installed. pip install 'domain-factory[medicine]'") from err
    return pydicom


def read_header(path: Path) -> Any:
    """The data set without its pixels.

    Raises:
        RowFault: an encrypted file, no DICOM, or a damaged header.
        PluginError: pydicom is missing.
    """
    return _read(path, stop_before_pixels=True)


def _read(path: Path, **how: Any) -> Any:
    pydicom = _pydicom()
    try:
        with path.open("rb") as handle:
            head = handle.read(512)
    except OSError as err:
        raise RowFault("file", f"cannot be opened: {err.strerror}.") from err
    refuse_impostor(head, "the file")
    if head[:1] == CMS and head[128:132] != b"DICM":
        raise RowFault("file", "is an encrypted DICOM (a CMS envelope). Decrypt it with its key, then load the result.")
    try:
        _refuse_bomb(path)
        with Bounded(path) as handle:
            dataset = pydicom.dcmread(handle, force=False, **how)
            # Reads every deferred element, nested ones too: damage shows here.
            iterated = [element.tag for element in dataset.iterall()]
    except RowFault:
        raise
    except pydicom.errors.InvalidDicomError as err:
        raise RowFault(
            "file", "has no DICOM header (no `DICM` after 128 bytes). It is another kind of file, or its start is lost."
        ) from err
    except Exception as err:  # pydicom raises many types on damaged elements, some of them bare Exceptions
        raise RowFault("file", f"is a truncated or damaged DICOM: {type(err).__name__}: {err}. Copy it again.") from err
    if not iterated:
        raise RowFault("file", "is a DICOM without any attribute. Copy it again.")
    if any(name in dataset for name in ENVELOPED):
        raise RowFault(
            "file", "holds encrypted attributes (0400,0500). Decrypt it, or remove that sequence, then load the result."
        )
    return dataset


def _refuse_bomb(path: Path) -> None:
    """A deflated data set (PS3.5 A.5) is unpacked whole before anything of it can be read: unpack it piece by piece first, and count."""
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    meta = read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    unpacked, stream = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as handle:
        handle.seek(META_START + int(meta.get("FileMetaInformationGroupLength", 0)))
        while not stream.eof and (chunk := stream.unconsumed_tail or handle.read(CHUNK)):
            unpacked += len(stream.decompress(chunk, 64 * CHUNK))
            if unpacked > MAX_DEFLATED:
                raise RowFault("file", f"unpacks to more than {MAX_DEFLATED >> 20} MiB: a decompression bomb. Leave it out.")


def picture(path: Path, *, frame: str, longest: int) -> Media:
    """One frame as an 8-bit PNG.

    Args:
        frame: `first`, `middle`, `last`, or a number from 1.
        longest: longest side, px.

    Raises:
        RowFault: see `read_header`; also no pixels, cut pixels, no such frame, a compression that cannot be decoded.
    """
    dataset = _read(path)
    if "PixelData" not in dataset:
        raise RowFault("file", "is a DICOM without pixels (a report, a segmentation or a waveform). Leave it out.")
    try:
        _refuse_cut_pixels(dataset)
        return Media(data=to_png(_shown(dataset, _frame(dataset.pixel_array, dataset, frame)), longest))
    except RowFault:
        raise
    except Exception as err:  # pydicom and its decoders raise many types, and MemoryError for a size that is damaged
        raise RowFault(
            "file",
            f"its pixels cannot be decoded ({type(err).__name__}: {err}). It is truncated, or its compression needs a decoder.",
        ) from err


def _refuse_cut_pixels(dataset: Any) -> None:
    """Uncompressed pixels must have their declared length; compressed ones may unpack to MAX_PIXELS at most."""
    wanted = dataset.Rows * dataset.Columns * int(dataset.get("SamplesPerPixel", 1)) * int(dataset.get("NumberOfFrames", 1) or 1)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        if wanted > MAX_PIXELS:
            raise RowFault(
                "file",
                f"its compressed pixels unpack to {wanted} values, above the limit of {MAX_PIXELS}. Take single frames out of it.",
            )
        return
    wanted = (wanted * int(dataset.BitsAllocated) + 7) // 8
    if str(dataset.get("PhotometricInterpretation")) == "YBR_FULL_422":
        wanted = wanted * 2 // 3
    if len(dataset.PixelData) < wanted:
        raise RowFault("file", f"is a truncated DICOM: {len(dataset.PixelData)} of {wanted} bytes of pixels. Copy it again.")


def _frame(array: np.ndarray, dataset: Any, wanted: str) -> np.ndarray:
    """[H, W] or [H, W, 3] out of possibly many frames."""
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if count == 1:
        return array
    index = {"first": 0, "middle": count // 2, "last": count - 1}.get(wanted, int(wanted) - 1 if wanted.isdecimal() else 0)
    if not 0 <= index < count:
        raise RowFault("frame", f"pack.frame={wanted}, but the file has {count} frames.")
    return array[index]


def _shown(dataset: Any, array: np.ndarray) -> np.ndarray:
    """uint8 pixels as a viewer shows them: modality LUT, VOI LUT or window, MONOCHROME1 inverted, colour to RGB."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, convert_color_space

    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if array.ndim == 3:
        if photometric.startswith("YBR"):
            array = convert_color_space(array, photometric, "RGB")
        return array.astype(np.uint8) if array.dtype != np.uint8 else array
    if photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        coloured = apply_color_lut(array, dataset)
        return (coloured >> 8).astype(np.uint8) if coloured.dtype == np.uint16 else coloured.astype(np.uint8)
    values = np.asarray(apply_voi_lut(apply_modality_lut(array, dataset), dataset), dtype=np.float64)
    low, high = values.min(), values.max()
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        low, high = _window(dataset, values)
    scaled = np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)
    if photometric == "MONOCHROME1":
        scaled = 1.0 - scaled
    return (scaled * 255.0 + 0.5).astype(np.uint8)


def _window(dataset: Any, values: np.ndarray) -> tuple[float, float]:
    """The range that `apply_voi_lut` maps a window to: that of the stored bits, rescaled. A LUT gives its own range."""
    if "VOILUTSequence" in dataset:
        return float(values.min()), float(values.max())
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def facts(dataset: Any) -> dict[str, str]:
    """What a header says about the picture and not about the person: modality, part of the body, view."""
    code = str(dataset.get("Modality", "")).strip().upper()
    found = {"modality": MODALITIES.get(code, code.lower()), "body_part": str(dataset.get("BodyPartExamined", "")).strip().lower(),
             "view": str(dataset.get("ViewPosition", "")).strip()}  # fmt: skip
    return {name: value for name, value in found.items() if value}
