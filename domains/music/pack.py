"""The music pack: theory questions about notation whose answers are exact, and music that is judged by rules.

Without data paths everything is generated (generator.py); with paths the user's files are read (loaders.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.domains.music import generator
from factory.domains.music.evals import evals
from factory.domains.music.verifiers import build_verifiers
from factory.plugins import read_manifest

if TYPE_CHECKING:
    from factory.data.report import RowReport
    from factory.packs.loading import Loader


def _loader() -> Loader:
    """The loader of real files, imported when there are any."""
    from factory.domains.music.loaders import LOADER

    return LOADER


class MusicPack:
    """Intervals, chords, keys, metre, melodies and harmony, in text or as images of notation."""

    def __init__(self) -> None:
        self.manifest = read_manifest(Path(__file__).parent)

    def modality(self, options: Mapping[str, Any]) -> str:
        """`text` or `vl` for a build with these `pack.*` options: in text mode a text-only base will do."""
        return "vl" if options.get("mode", "text") == "visual" else "text"

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Exercises, or the user's tunes, for continued pretraining."""
        if request.paths:
            return _loader().documents(request, split, seed)
        return generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked reasoning for supervised fine-tuning."""
        if request.paths:
            return _loader().lessons(request, split, seed)
        return generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references for reinforcement learning and evaluation."""
        if request.paths:
            return _loader().samples(request, split, seed)
        return generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see verifiers.py."""
        return build_verifiers()

    def evals(self) -> Mapping[str, Eval]:
        """Accuracy and the likelihood probe; see evals.py."""
        return evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; all of them without paths."""
        if not request.paths:
            return frozenset(self.manifest.provides)
        return _loader().gives(request)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        return _loader().check(request)

    def gold(self, sample: Sample) -> str:
        """A completion that earns the full reward: used by the conformance kit, never by training."""
        thinking = str(sample.meta.get("thinking", "short"))
        return generator.worked(
            "the notes of the score decide this question",
            str(sample.reference),
            str(sample.meta.get("form", "think_answer")),
            thinking,
        )


PACK = MusicPack()
