"""The packs' own readers as targets: a small folder of a user, one file of it changed, loaded as `factory data check` and a build do.

A refused file, a bad row in the report and a row left out are proper answers. Seeds lie in `seeds_*.py`; every one must give a row.
"""

from __future__ import annotations

import importlib
import importlib.util
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.contracts import DataRequest
from factory.errors import DataError

Seeds = Callable[[Path], Sequence[bytes]]
KINDS = ("check", "documents", "lessons", "samples")


@dataclass(frozen=True)
class PackTarget:
    """One format of a pack."""

    pack: str
    name: str
    """The file that is changed, inside the folder. Empty for a folder of `files`: the first line of an input then names its file."""
    seeds: Seeds
    """(empty folder) -> inputs that give rows."""
    files: Callable[[Path], Mapping[str, bytes]] = lambda _: {}
    """(empty folder) -> good files beside the changed one."""
    needs: tuple[str, ...] = ()
    """Modules of optional libraries."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `pack.*`; `{folder}` in a text stands for the folder."""

    def missing(self) -> list[str]:
        """Optional libraries that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def load_libraries(self) -> None:
        """Import what the target needs, so that processes forked afterwards share it; without MONAI, whose torch starts threads."""
        for name in (f"factory.domains.{self.pack}.loaders", *self.needs):
            if name != "monai":
                importlib.import_module(name)

    def reader(self, scratch: Path) -> tuple[Callable[[bytes, Path], None], Sequence[bytes]]:
        """The function that is fuzzed, and its seeds; each seed was seen to give a row, which also loads the libraries."""
        scratch.mkdir(parents=True, exist_ok=True)
        beside = dict(self.files(scratch))
        seeds = list(self.seeds(scratch)) if self.name else [name.encode() + b"\n" + content for name, content in beside.items()]

        def read(content: bytes, folder: Path) -> None:
            load(
                self.pack, self._written(content, beside, folder), self._options(folder), KINDS[zlib.crc32(content) % len(KINDS)]
            )

        for number, seed in enumerate(seeds):
            folder = scratch / f"seed-{number}"
            count = load(self.pack, self._written(seed, beside, folder), self._options(folder), "preview")
            assert count, f"seed {number} of {self.pack} {self.name} gives no row: {seed[:200]!r}"
        return read, seeds

    def _options(self, folder: Path) -> dict[str, Any]:
        return {key: value.format(folder=folder) if isinstance(value, str) else value for key, value in self.options.items()}

    def _written(self, content: bytes, beside: Mapping[str, bytes], folder: Path) -> Path:
        """Write the folder; the part of it that the loader is given."""
        name = self.name
        if not name:
            said, _, content = content.partition(b"\n")
            known = said.decode("utf-8", "replace")
            name = known if known in beside else next(iter(beside))
        root = folder / "data"
        for other, good in {**beside, name: content}.items():
            path = root / other
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(good)
        return root


def load(pack: str, folder: Path, options: Mapping[str, Any], kind: str) -> int:
    """Load a folder through a pack; the number of rows."""
    request = DataRequest(
        paths=(str(folder),), options=options, max_bad_fraction=1.0, quarantine_dir=str(folder.parent / "aside")
    )
    loaders = importlib.import_module(f"factory.domains.{pack}.loaders")
    loader = loaders.LOADER if hasattr(loaders, "LOADER") else loaders.loader(request)
    if kind == "check":
        report = loader.check(request)
        assert all(bad.reason and bad.field for bad in report.first_bad), f"a bad row without a reason: {report.first_bad}"
        return int(report.num_good)
    if kind == "preview":
        return len(loader.preview(request, n=1000))
    return sum(1 for _ in getattr(loader, kind)(request, "train", 0))


def pairs_of_safety(content: bytes, folder: Path) -> None:
    """Preference rows of the safety pack, under both preferences."""
    from factory.domains.safety.loaders_pairs import load_pairs

    path = folder / "pairs.jsonl"
    path.write_bytes(content)
    for preference in ("safer", "helpful"):
        try:
            list(
                load_pairs(DataRequest(paths=(str(path),), options={"preference": preference}, max_bad_fraction=1.0), "train", 0)
            )
        except DataError:
            if preference == "helpful":
                raise
