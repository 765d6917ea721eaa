"""Identifiers of patients: found and refused, never removed. A dedicated tool de-identifies; this pack certifies nothing.

DICOM: attributes of PS3.15's basic profile that name a person, a number or a place, private tags, and the flag for burned-in
text. Slides: label and macro images, identifying properties. Values such as `ANON` or an empty text do not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from factory.data.rows import RowFault

DICOM_TAGS = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientBirthTime", "PatientAddress", "PatientTelephoneNumbers", "PatientMotherBirthName",
    "OtherPatientIDs", "OtherPatientNames", "OtherPatientIDsSequence", "PatientComments", "MedicalRecordLocator", "MilitaryRank",
    "CountryOfResidence", "RegionOfResidence", "PersonName", "PersonIdentificationCodeSequence", "ReferringPhysicianName",
    "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "PhysiciansOfRecord", "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy", "OperatorsName", "RequestingPhysician", "ScheduledPerformingPhysicianName", "AccessionNumber",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "AdmissionID", "IssuerOfPatientID",
    "PatientInsurancePlanCodeSequence", "ResponsiblePerson", "ResponsibleOrganization", "InsurancePlanIdentification",
    "VerifyingObserverName", "ContentCreatorName", "AuthorObserverSequence", "CurrentPatientLocation", "PatientInstitutionResidence",
)  # fmt: skip
"""Keywords of attributes that identify; a part of PS3.15 table E.1-1, which also lists dates and UIDs (those are not refused)."""
IDENTIFYING = re.compile(r"patient|birth|accession|referring|physician|institution|operator|\buser\b|barcode", re.IGNORECASE)
"""Names of slide properties that identify."""
LABEL_IMAGES = frozenset({"label", "macro"})
"""Associated images of a slide where a sticker with name and number may be seen."""
_HARMLESS = re.compile(
    r"anon\w*|de-?ident\w*|removed|redacted|unknown|none|na|n/a|phantom|test|patient|xxx+|0+|\W*", re.IGNORECASE
)
DICOM_REMEDY = (
    "De-identify it first (for example with dicognito, deid or the RSNA CTP), then load the result; "
    "pack.phi=allow reads it as it is and records that."
)
SLIDE_REMEDY = (
    "Remove label and macro images first (for example with wsi-anon, ImageDePHI or PathSafe), then load the result; "
    "pack.phi=allow reads the slide without them and records that."
)


def is_identifying(value: Any) -> bool:
    """Whether a header's value says anything about a person: not empty and no word for `removed`."""
    return not all(_HARMLESS.fullmatch(word) for word in str(value if value is not None else "").replace("^", " ").split())


def dicom_identifiers(dataset: Any) -> list[str]:
    """Keywords of identifying attributes that are filled in, `private tags` and `burned-in text`, in a fixed order.

    Sequences are searched too; values are never returned.
    """
    found = [name for name in DICOM_TAGS if any(_filled(item, name) for item in _datasets(dataset))]
    if any(element.tag.is_private and not element.tag.is_private_creator for item in _datasets(dataset) for element in item):
        found.append("private tags")
    if str(getattr(dataset, "BurnedInAnnotation", "")).strip().upper() == "YES":
        found.append("burned-in text")
    return found


def _filled(dataset: Any, name: str) -> bool:
    value = dataset.get(name)
    if value is None or name not in dataset:
        return False
    if dataset[name].VR == "SQ":
        return len(value) > 0
    return is_identifying(value)


def _datasets(dataset: Any) -> Iterable[Any]:
    """The data set and every item of its sequences."""
    yield dataset
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _datasets(item)


def refuse_dicom(found: list[str], phi: str) -> dict[str, str]:
    """What to record in a sample when identifiers are allowed. Raises RowFault when they are not."""
    if not found:
        return {}
    if phi == "deny":
        raise RowFault(
            "phi", f"identifies a patient: {', '.join(found[:6])}{' and more' if len(found) > 6 else ''}. {DICOM_REMEDY}"
        )
    return {"phi": f"allowed: {', '.join(found)}"}


def slide_identifiers(properties: Mapping[str, str], associated: Iterable[str]) -> list[str]:
    """Label and macro images, and properties whose name identifies and whose value is filled in."""
    found = [f"{name} image" for name in sorted(LABEL_IMAGES & {name.lower() for name in associated})]
    return found + sorted(name for name, value in properties.items() if IDENTIFYING.search(name) and is_identifying(value))


def refuse_slide(found: list[str], phi: str) -> dict[str, str]:
    """As `refuse_dicom`, for a slide."""
    if not found:
        return {}
    if phi == "deny":
        raise RowFault("phi", f"may identify a patient: {', '.join(found[:6])}. {SLIDE_REMEDY}")
    return {"phi": f"allowed: {', '.join(found)}"}
