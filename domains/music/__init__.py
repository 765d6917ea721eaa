"""Music theory and notation; see README.md."""

from factory.domains.music.pack import PACK

__all__ = ["PACK"]
