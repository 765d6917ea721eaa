"""Where the factory keeps things on a user's disk: one folder, movable with `rsync -a`.

$FACTORY_HOME            default ~/.factory
├── runs/<run>/          one build: resolved.yaml, plan.json, run.json, stages/<NN-name>/, result.json, report.html
├── registry/
│   ├── manifests/       <model-id>.json: what a built model is and where it came from (the truth)
│   ├── objects/         content-addressed folders of weights, see store.py (the truth)
│   └── index.sqlite     an index that `reindex` builds again from the manifests
├── jobs/<name>/         what was submitted: script, record, logs, and the key of its nodes
└── cache/               calibration of the time estimate; may be deleted at any time
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Home:
    """The folders under one FACTORY_HOME. Nothing is created until something is written."""

    root: Path

    @classmethod
    def find(cls, env: Mapping[str, str] | None = None) -> Home:
        """The home that FACTORY_HOME names, else `~/.factory`."""
        named = (os.environ if env is None else env).get("FACTORY_HOME")
        return cls(Path(named).expanduser().absolute() if named else Path.home() / ".factory")

    @property
    def runs(self) -> Path:
        """One folder for each run."""
        return self.root / "runs"

    @property
    def registry(self) -> Path:
        """Manifests, objects and the index."""
        return self.root / "registry"

    @property
    def cache(self) -> Path:
        """Files that only save time."""
        return self.root / "cache"
