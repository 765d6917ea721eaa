"""Pathology: stains, cells and small diagnoses on histology tiles."""

from factory.domains.pathology.pack import PACK

__all__ = ["PACK"]
