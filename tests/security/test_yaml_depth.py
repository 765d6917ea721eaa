"""YAML of others neither ends the process nor escapes as another error: a C library reads it, by recursion."""

import subprocess
import sys

import pytest
import yaml

from factory.errors import RegistryError
from factory.quick_yaml import MAX_DEPTH, read_yaml
from factory.registry.run_settings import read_run_settings

DEEP = {
    "lists": "[" * 100_000,
    "mappings": "{a: " * 5000 + "1" + "}" * 5000,
    "blocks": "- " * 20_000 + "a",
    "one too many": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_too_many_levels_are_an_error_with_its_line(text):
    """In a process of its own, which libyaml would end."""
    code = "import sys, yaml\nfrom factory.quick_yaml import read_yaml\ntry: read_yaml(sys.stdin.read())\nexcept yaml.YAMLError as err: print(err)"
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"line 1: more than {MAX_DEPTH} levels\n"), done.stderr


@pytest.mark.parametrize("text", ["a: 2020-99-99", "a: [1", "a: \0", "{[1]: 2}", "a: !!python/object:os.x {}"])
def test_what_is_no_plain_data_is_a_yaml_error(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


def test_as_deep_as_allowed_and_equal_to_the_plain_loader():
    for text in ("[" * MAX_DEPTH + "]" * MAX_DEPTH, "a: &x {b: [1, 2.5, null, 2020-01-02]}\nc: *x\n", ""):
        assert read_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1", b"", DEEP["lists"].encode()])
def test_damaged_settings_of_a_run_name_the_file(tmp_path, content):
    (tmp_path / "resolved.yaml").write_bytes(content)
    with pytest.raises(RegistryError, match=r"resolved\.yaml: .*Restore it from a backup, or build the run again"):
        read_run_settings(tmp_path)


def test_missing_settings_of_a_run_name_the_file(tmp_path):
    with pytest.raises(RegistryError, match=r"resolved\.yaml: cannot be read"):
        read_run_settings(tmp_path)
