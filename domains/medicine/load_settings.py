"""The loader's settings: keys of `pack.*` with these names when `--data` is given."""

from __future__ import annotations

from dataclasses import dataclass

from factory.errors import ConfigError
from factory.packs.settings import one_of
from factory.packs.sources import LoadSettings

MEDICAL_MMLU = (
    "anatomy", "clinical_knowledge", "college_biology", "college_medicine", "high_school_biology", "medical_genetics",
    "nutrition", "professional_medicine", "virology",
)  # fmt: skip
"""Subjects of MMLU that medical papers report."""


@dataclass(frozen=True)
class MedicineLoad(LoadSettings):
    """What the medicine loaders can be told."""

    medmcqa_cop: str = "auto"
    """How MedMCQA counts its right option: `one` (the authors' JSONL), `zero` (the hub's parquet), `auto` by the kind of file."""
    languages: tuple[str, ...] = ("en",)
    """SLAKE: rows in other languages are passed over."""
    mmlu_subjects: tuple[str, ...] = MEDICAL_MMLU
    official_splits: bool = False
    """VQA-RAD: keep the published train and test files, although they share images."""
    phi: str = "deny"
    """`deny` refuses files that name a patient, `allow` reads them and records that in each sample."""
    frame: str = "middle"
    """Frame of a multi-frame DICOM: `first`, `middle`, `last`, or its number from 1."""
    image_px: int = 512
    """Longest side of the picture made of a DICOM, NIfTI or slide; smaller ones are not enlarged."""
    code_depth: str = "full"
    """Levels of a code that must agree: `category`, `full`, or a number from 1."""
    code_table: str = ""
    """CSV of all codes (column `code`); answers outside it are wrong."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("pack.medmcqa_cop", self.medmcqa_cop, ("auto", "one", "zero"))
        one_of("pack.phi", self.phi, ("deny", "allow"))
        if self.frame not in ("first", "middle", "last") and not (self.frame.isdecimal() and int(self.frame) >= 1):
            raise ConfigError(f"pack.frame is {self.frame!r}; want first, middle, last or a number from 1.")
        if self.code_depth not in ("category", "full") and not (self.code_depth.isdecimal() and int(self.code_depth) >= 1):
            raise ConfigError(f"pack.code_depth is {self.code_depth!r}; want category, full or a number from 1.")
        if self.image_px < 28:
            raise ConfigError(f"pack.image_px is {self.image_px}; want 28 or more.")
