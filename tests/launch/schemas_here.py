"""The published schemas in `schemas/`, and what of a document does not fit them."""

import gzip
import json
from functools import cache
from pathlib import Path

import jsonschema

FOLDER = Path(__file__).parent / "schemas"
VERSIONS = ("2.0.1", "2.1.0", "2.2.1", "2.3.0")
"""Of Kubeflow Trainer, the newest last."""


@cache
def _load(name):
    return json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))


def complaints(document, version=VERSIONS[-1]):
    """`path: what` for everything in a Kubernetes document that its kind's schema does not allow, as that version of Kubeflow Trainer has it."""
    held = _load(f"trainer-{version}")
    schema = {"$ref": f"#/$defs/{held['kinds'][document['kind']]}", "$defs": held["$defs"]}
    return _found(document, schema)


def sky_complaints(task):
    """The same for a SkyPilot task; resources have a schema of their own."""
    held = _load("skypilot")
    return _found(task, held["task"]) + _found(task["resources"], held["resources"])


def _found(document, schema):
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{'/'.join(map(str, error.absolute_path))}: {_deepest(error)}" for error in validator.iter_errors(document)]


def _deepest(error):
    while error.context:
        error = max(error.context, key=lambda one: len(one.absolute_path))
    return f"{'/'.join(map(str, error.absolute_path))} {error.message[:300]}"
