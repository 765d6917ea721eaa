"""pack.yaml: every key must have its form; whatever else stands there is told with file, key and remedy."""

import re

import pytest
import yaml

from factory.errors import BrokenPlugin
from factory.plugins import read_manifest

WHOLE = {"name": "stones", "title": "Stones", "version": "1.0.0", "license": "CC0-1.0", "intended_use": "tests", "not_for": "use"}


def written(folder, **changes):
    """A pack's folder."""
    (folder / "pack.yaml").write_text(yaml.safe_dump({**WHOLE, **changes}))
    return folder


def test_a_whole_manifest_is_read(tmp_path):
    found = read_manifest(
        written(tmp_path, provides=["samples"], data=[{"id": "a"}], tasks={"t": {"title": "T"}}, defaults={"seed": 1})
    )
    assert (found.name, found.provides, found.data, found.tasks) == (
        "stones",
        ("samples",),
        ({"id": "a"},),
        {"t": {"title": "T"}},
    )
    assert dict(found.defaults) == {"seed": 1}


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("title", ["a"], "text"),
        ("license", {"a": 1}, "text"),
        ("version", 1.5, "text; quote it"),
        ("provides", None, "a list of names"),
        ("provides", "samples", "a list of names"),
        ("data", ["rocks"], "a list of mappings"),
        ("data", None, "a list of mappings"),
        ("tasks", {"t": "title"}, "a mapping of tasks"),
        ("defaults", [1], "a mapping"),
        ("changelog", {1: "a"}, "a mapping"),
    ],
)
def test_another_form_names_the_key(tmp_path, key, value, wanted):
    with pytest.raises(BrokenPlugin, match=rf"pack\.yaml: {key} must be {re.escape(wanted)}.*Correct it"):
        read_manifest(written(tmp_path, **{key: value}))
