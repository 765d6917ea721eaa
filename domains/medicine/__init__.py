"""The medicine pack: image phantoms, calculators, acid-base and ECG cases, and the field's question sets."""

from factory.domains.medicine.pack import PACK

__all__ = ["PACK"]
