"""Time series: signals drawn as pictures or written as numbers, with questions whose answers are exact."""

from factory.domains.timeseries.pack import PACK

__all__ = ["PACK"]
