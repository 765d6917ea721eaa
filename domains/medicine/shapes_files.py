"""DICOM, NIfTI and slide files as rows: one file is one row. Pictures are drawn only when the row is wanted.

A table may also name such files in its image column; `with_medical_images` then draws them (with `pack.image_root`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import Media
from factory.data.files import FileFormat
from factory.data.images import find_image
from factory.data.rows import RowFault
from factory.domains.medicine import dicom, nifti, slide_labels
from factory.domains.medicine.load_settings import MedicineLoad
from factory.domains.medicine.phi import dicom_identifiers, refuse_dicom
from factory.packs.common_shapes import RowShape, convert
from factory.packs.records import DOCUMENTS, SAMPLES, Record

_SUBJECT = re.compile(r"sub-[0-9A-Za-z]+")
"""The subject in BIDS paths; all of a subject's volumes share a split."""
MEDICAL_SUFFIXES = (".dcm", ".dicom", ".nii", ".nii.gz", *slide_labels.SUFFIXES)


def _one_row(column: str) -> Any:
    def read(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowFault]]:
        yield 1, {column: str(path)}

    return read


def _dicom(row: Mapping[str, Any], settings: MedicineLoad) -> list[Record]:
    """A caption from the header, and a question about its modality."""
    path = Path(row["dicom_file"])
    header = dicom.read_header(path)
    meta: dict[str, Any] = refuse_dicom(dicom_identifiers(header), settings.phi)
    facts = dicom.facts(header)
    if "modality" not in facts:
        raise RowFault("Modality", "is blank. Fill in (0008,0060), or leave the file out.")
    group = _patient_group(header) or f"study={header.get('StudyInstanceUID') or path.parent.name}"

    def draw() -> tuple[Media, ...]:
        return (dicom.picture(path, frame=settings.frame, longest=settings.image_px),)

    caption = " ; ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    question = "With which modality was this image made? Answer in one word."
    return [
        Record(DOCUMENTS, key=f"{path.name}-text", text=caption, draw=draw, group=group, meta=dict(meta)),
        Record(
            SAMPLES,
            key=path.name,
            text=question,
            answer=facts["modality"],
            draw=draw,
            group=group,
            task="closed",
            meta={**meta, **facts},
        ),
    ]


def _patient_group(header: Any) -> str:
    """A number for the patient that does not give the patient away; empty when the header has none."""
    number = str(header.get("PatientID") or "").strip()
    return f"patient={hashlib.blake2b(number.encode(), digest_size=8).hexdigest()}" if number else ""


def _nifti(row: Mapping[str, Any], settings: MedicineLoad) -> list[Record]:
    """A caption of the volume, and for each plane the question which one it is."""
    path = Path(row["nifti_file"])
    about = nifti.read_header(path)
    subject = _SUBJECT.search(path.as_posix())
    group = f"patient={subject.group()}" if subject else f"volume={path.name}"
    text = f"orientation {about['orientation']} ; shape {about['shape']} ; spacing {about['spacing_mm']} mm"
    found = [
        Record(DOCUMENTS, key=f"{path.name}-text", text=text, group=group, draw=_planes(path, "", settings), meta=dict(about))
    ]
    for plane in nifti.PLANES:
        question = f"Which plane is this slice in? One of: {', '.join(nifti.PLANES)}."
        found.append(Record(SAMPLES, key=f"{path.name}-{plane}", text=question, answer=plane, group=group, task="closed",
                            draw=_planes(path, plane, settings), meta=dict(about)))  # fmt: skip
    return found


def _planes(path: Path, plane: str, settings: MedicineLoad) -> Any:
    return lambda: (nifti.picture(path, plane=plane, longest=settings.image_px),)


def _slide(row: Mapping[str, Any], settings: MedicineLoad) -> Record:
    path = Path(row["slide_file"])
    meta: dict[str, Any] = slide_labels.checked(path, settings.phi)
    return Record(DOCUMENTS, key=path.name, text="modality histology", group=f"slide_id={path.stem}", meta=meta,
                  draw=lambda: (slide_labels.overview(path, longest=settings.image_px),))  # fmt: skip


def _drawn(path: Path, settings: MedicineLoad) -> tuple[Media, ...]:
    """The picture of one medical file that a table names, after the check for identifiers."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return (nifti.picture(path, longest=settings.image_px),)
    if name.endswith(slide_labels.SUFFIXES):
        return (slide_labels.overview(path, longest=settings.image_px),)
    return (dicom.picture(path, frame=settings.frame, longest=settings.image_px),)


def _cleared(path: Path, settings: MedicineLoad) -> dict[str, str]:
    """Refuse identifiers before anything is kept of the file."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        nifti.read_header(path)
        return {}
    if name.endswith(slide_labels.SUFFIXES):
        return slide_labels.checked(path, settings.phi)
    return refuse_dicom(dicom_identifiers(dicom.read_header(path)), settings.phi)


def with_medical_images(shape: RowShape) -> RowShape:
    """The shape, reading also rows whose image is a DICOM, NIfTI or slide file."""

    def converted(row: Mapping[str, Any], settings: MedicineLoad) -> list[Record]:
        records = convert(row, shape, settings)
        for record in records:
            names = record.images if isinstance(record.images, list) else [record.images]
            if not all(isinstance(name, str) and name.lower().endswith(MEDICAL_SUFFIXES) for name in names):
                continue
            if not settings.image_root:
                raise RowFault(
                    record.image_field,
                    f"{names[0]!r} is drawn before it is read; set pack.image_root to the folder of such files.",
                )
            paths = [find_image(name, [Path(settings.image_root).expanduser()], field=record.image_field) for name in names]
            for path in paths:
                record.meta |= _cleared(path, settings)
            record.group = record.group or f"image={names[0]}"
            record.images, record.draw = (
                None,
                lambda kept=tuple(paths): tuple(one for path in kept for one in _drawn(path, settings)),
            )
        return records

    return replace(shape, convert=converted)


FORMATS = (
    FileFormat("dicom", (".dcm", ".dicom"), "DICOM (.dcm, .dicom)", _one_row("dicom_file")),
    FileFormat("nifti", (".nii",), "NIfTI (.nii, .nii.gz)", _one_row("nifti_file")),
    FileFormat("slide", slide_labels.SUFFIXES, "whole slides (.svs, .ndpi, ...)", _one_row("slide_file")),
)  # fmt: skip
SHAPES = (
    RowShape("dicom", "a DICOM image", (("dicom_file",),), None, DOCUMENTS | SAMPLES, _dicom),
    RowShape("nifti", "a NIfTI volume", (("nifti_file",),), None, DOCUMENTS | SAMPLES, _nifti),
    RowShape("slide", "a whole slide without label", (("slide_file",),), None, DOCUMENTS, _slide),
)  # fmt: skip
