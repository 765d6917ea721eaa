"""Chemistry: structures, edits, properties and reactions of small molecules, judged by RDKit."""

from factory.domains.chemistry.pack import PACK

__all__ = ["PACK"]
