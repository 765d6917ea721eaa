"""Driving: meta-actions and waypoints on traffic scenes, judged by rules and by a small simulator."""

from factory.domains.driving.pack import PACK

__all__ = ["PACK"]
