"""Biology: DNA, the genetic code, variants and signed pathways."""

from factory.domains.biology.pack import PACK

__all__ = ["PACK"]
