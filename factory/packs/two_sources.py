"""A pack whose items are generated, or read from the user's files when paths are given; the shape of the built-in packs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest, Document, Eval, Lesson, Sample, Verifier
from factory.data.report import RowReport
from factory.plugins import read_manifest


class TwoSources:
    """What every pack of this shape does. A pack adds `gold`, and overrides what differs.

    Args:
        folder: holds pack.yaml.
        generator: a module with `documents`, `lessons` and `samples` of (split, seed, request).
        loader: gives the pack's `Loader` for a request with paths; called only then, so that its libraries stay unloaded until then.
        verifiers: from the manifest's tasks to all verifiers by name.
        evals: all evals by name.

    Raises:
        PluginError: pack.yaml is wrong.
    """

    def __init__(
        self,
        folder: Path,
        *,
        generator: Any,
        loader: Callable[[DataRequest], Any],
        verifiers: Callable[[Mapping[str, Any]], Mapping[str, Verifier]],
        evals: Callable[[], Mapping[str, Eval]],
    ) -> None:
        self.manifest = read_manifest(folder)
        self._generator, self._loader, self._verifiers, self._evals = generator, loader, verifiers, evals

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]:
        """Texts, perhaps with images, for continued pretraining."""
        if request.paths:
            return self._loader(request).documents(request, split, seed)
        return self._generator.documents(split, seed, request)

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]:
        """Questions with worked responses, for supervised fine-tuning."""
        if request.paths:
            return self._loader(request).lessons(request, split, seed)
        return self._generator.lessons(split, seed, request)

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]:
        """Questions with references, for reinforcement learning and evaluation."""
        if request.paths:
            return self._loader(request).samples(request, split, seed)
        return self._generator.samples(split, seed, request)

    def verifiers(self) -> Mapping[str, Verifier]:
        """All verifiers by name; see the pack's verifiers.py."""
        return self._verifiers(self.manifest.tasks)

    def evals(self) -> Mapping[str, Eval]:
        """All evals by name; see the pack's evals.py."""
        return self._evals()

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` the request's paths hold; what the generator has without paths."""
        if request.paths:
            return self._loader(request).gives(request)
        return frozenset({"corpus", "lessons", "samples"}) & frozenset(self.manifest.provides)

    def check(self, request: DataRequest) -> RowReport:
        """Read the user's files whole and report every bad row; raises only when a path or its shape is wrong."""
        return self._loader(request).check(request)
