"""Safety: answer what may be answered, refuse what may not, keep instructions, say when something is unknown."""

from factory.domains.safety.pack import PACK

__all__ = ["PACK"]
