"""The report of a run: one HTML file that needs nothing else, a model card, and TensorBoard events."""

from factory.report.build import build_report

__all__ = ["build_report"]
