"""Every code block of the documentation is checked: commands parse, settings compose, Python compiles and its imports exist."""

import ast
import importlib
import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

import code_blocks

BLOCKS = list(code_blocks.blocks())
SHELL = ("bash", "sh", "shell", "console", "")
PLAIN = (
    "text",
    "html",
    "toml",
    "ini",
    "dockerfile",
    "jinja",
    "jinja2",
    "csv",
    "json",
    "jsonl",
    "yaml",
    "python",
    "diff",
    "math",
    "abc",
    "mermaid",
)


def test_every_language_is_known():
    assert len(BLOCKS) > 30
    assert [f"{block}: {block.language}" for block in BLOCKS if block.language not in (*SHELL, *PLAIN)] == []


COMMANDS = [
    pytest.param(words, id=f"{block}-{' '.join(words)[:40]}")
    for block in BLOCKS if block.language in SHELL for words in code_blocks.command_lines(block.text)
]  # fmt: skip


def parse(words):
    """Parse a command line without running it. Raises typer's usage errors."""
    import typer

    from factory.cli.app import app

    command, parent = typer.main.get_command(app), None
    rest = [word for word in words if word != "--debug"]
    while hasattr(command, "commands"):
        if not rest or rest[0] in ("--help", "--version", "--install-completion"):
            return
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    if "--help" not in rest:
        command.make_context(" ".join(words[:2]), list(rest), parent=parent)


def test_there_are_commands():
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("words", COMMANDS)
def test_the_command_is_one(words):
    parse([word for word in words if word != "..."])


@pytest.mark.parametrize("words", [["bild"], ["plan", "--domian", "x"], ["report"]])
def test_a_command_that_is_none_is_refused(words):
    with pytest.raises(Exception, match=r"no command|No such option|Missing (argument|parameter)"):
        parse(words)


RECIPE_KEYS = {
    "extends",
    "description",
    "domain",
    "recipe",
    "base",
    "seed",
    "stages",
    "eval",
    "data",
    "pack",
    "mixture",
    "pool",
    "judges",
    "watch",
    "launch",
    "precision",
}


def is_recipe(value):
    """Settings of a build, whole or in part."""
    return isinstance(value, dict) and value and set(value) <= RECIPE_KEYS


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "yaml"], ids=str)
def test_yaml_is_read_and_settings_are_accepted(block, tmp_path):
    value = yaml.safe_load(block.text)
    assert value is not None
    if not is_recipe(value):
        return
    from factory.config.compose import compose

    # An example that names no domain may name tasks of any: their weights are then not looked up.
    recipe = (
        value if "domain" in value else {"domain": "pathology"} | {key: part for key, part in value.items() if key != "mixture"}
    )
    if "stages" not in recipe:
        recipe = {"extends": "embedded"} | recipe
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    compose(None, recipe=str(tmp_path / "recipe.yaml"))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in ("json", "jsonl")], ids=str)
def test_json_is_read(block):
    """One document, or one a line."""
    try:
        json.loads(block.text)
    except json.JSONDecodeError:
        for line in filter(str.strip, block.text.splitlines()):
            json.loads(line)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "python"], ids=str)
def test_python_compiles_and_its_imports_exist(block):
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "factory":
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), (
                    f"{node.module}.{name.name}"
                )
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "factory":
                    importlib.import_module(name.name)


def test_pictures_of_the_docs_are_small_and_there():
    import re

    for path in code_blocks.documents():
        for words, address in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
            picture = path.parent / address
            assert picture.is_file() and picture.stat().st_size < 200_000, picture
            assert len(words) > 20, f"{path}: {address} has no description"


def test_links_between_pages_lead_somewhere():
    import re

    for path in code_blocks.documents():
        text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        for address in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in address and not (path.name == "index.md" and address.startswith("domains/")):
                assert (path.parent / address).exists(), f"{path}: {address}"
