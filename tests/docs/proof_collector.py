"""A pytest plugin: `pytest --collect-only -p proof_collector` writes every `proves` marker to $PROOFS_FILE as JSON."""

import json
import os
from collections import defaultdict
from pathlib import Path


def pytest_collection_modifyitems(config, items):
    """`slot.name` -> way -> test files, from the markers of all collected tests."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for item in items:
        for mark in item.iter_markers("proves"):
            for how in mark.args[1:]:
                found[mark.args[0]][how].add(str(Path(item.path).relative_to(config.rootpath)))
    plain = {key: {how: sorted(files) for how, files in ways.items()} for key, ways in sorted(found.items())}
    Path(os.environ["PROOFS_FILE"]).write_text(json.dumps(plain))
