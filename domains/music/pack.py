"""The music pack: theory questions about notation whose answers are exact, and music that is judged by rules.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Sample
from factory.domains.music import generator
from factory.domains.music.evals import evals
from factory.domains.music.verifiers import build_verifiers
from factory.packs.two_sources import TwoSources


def _loader() -> Loader:
    """The loader of real files, imported when there are any."""
    from factory.domains.music.loaders import LOADER

    return LOADER


if TYPE_CHECKING:
    from factory.packs.loading import Loader


class MusicPack(TwoSources):
    """Intervals, chords, keys, metre, melodies and harmony, in text or as images of notation."""

    def modality(self, options: Mapping[str, Any]) -> str:
        """`text` or `vl` for a build with these `pack.*` options: in text mode a text-only base will do."""
        return "vl" if options.get("mode", "text") == "visual" else "text"

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        thinking = str(sample.meta.get("thinking", "short"))
        return generator.worked(
            "the notes of the score decide this question",
            str(sample.reference),
            str(sample.meta.get("form", "think_answer")),
            thinking,
        )


def _loader(_: DataRequest) -> Loader:
    from factory.domains.music.loaders import LOADER

    return LOADER


PACK = MusicPack(
    Path(__file__).parent, generator=generator, loader=_loader, verifiers=lambda tasks: build_verifiers(), evals=evals
)
