"""Rules that the whole source keeps, read from its syntax trees: nothing of ours can run what it only meant to read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("factory", "stages", "domains", "registry")
RUNS_TEXT = {
    "eval", "exec", "compile", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "runpy.run_path",
    "code.interact", "builtins.eval", "builtins.exec",
}  # fmt: skip
UNPICKLES = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "cPickle.loads", "dill.load", "dill.loads", "joblib.load", "marshal.load",
    "marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle", "cloudpickle.load", "cloudpickle.loads",
}  # fmt: skip
UNPICKLES_ITS_OWN = {"factory/testing/checks_data.py"}
"""The conformance kit pickles a pack's items itself and reads them back at once, in a folder of its own, to see that they survive."""
UNPACKS = {"extractall", "unpack_archive"}


_WORTH_PARSING = re.compile(
    r"\b(eval|exec|system|popen|getoutput|getstatusoutput|run_path|interact|read_pickle|extractall|unpack_archive|allow_pickle)\b"
    r"|(?<!re\.)\bcompile\(|[Pp]ickle|marshal|shelve|joblib|dill|shell|torch\.load|trust_remote_code|yaml|jinja|Environment|Template"
)
"""Words without which a file can hold none of the faults; parsing all of them takes long."""


@cache
def sources() -> dict[str, str]:
    """Path below the root -> text, of every Python file of ours."""
    paths = sorted({path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts})
    kept = [path for path in paths if not any(parent.is_symlink() for parent in path.parents)]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in kept}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((word.value for word in call.keywords if word.arg == name), None)


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def faults_of(tree: ast.AST, path: str = "x.py") -> list[str]:
    """What a tree does that it must not."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names} & (RUNS_TEXT | UNPICKLES)
            found += [f"{path}:{node.lineno}: {name} under a name of its own" for name in sorted(named)]
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        if name in RUNS_TEXT:
            found.append(f"{path}:{call.lineno}: {name} runs text")
        if name in UNPICKLES and path not in UNPICKLES_ITS_OWN:
            found.append(f"{path}:{call.lineno}: {name} can run code")
        if keyword(call, "shell") is not None and not is_constant(keyword(call, "shell"), False):
            found.append(f"{path}:{call.lineno}: a shell reads the command")
        if name == "torch.load" and not is_constant(keyword(call, "weights_only"), True):
            found.append(f"{path}:{call.lineno}: torch.load without weights_only=True")
        if keyword(call, "allow_pickle") is not None and not is_constant(keyword(call, "allow_pickle"), False):
            found.append(f"{path}:{call.lineno}: numpy may unpickle")
        if keyword(call, "trust_remote_code") is not None and not is_constant(keyword(call, "trust_remote_code"), False):
            found.append(f"{path}:{call.lineno}: remote code is trusted")
        if last in UNPACKS:
            found.append(f"{path}:{call.lineno}: {last} writes wherever the archive says")
        if name in ("yaml.load", "yaml.load_all") and not _is_safe_loader(call):
            found.append(f"{path}:{call.lineno}: {name} without a safe loader")
        if name in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"):
            found.append(f"{path}:{call.lineno}: {name} makes objects")
        if (
            last in ("Environment", "Template")
            and name.split(".")[0] in ("jinja2", "Environment", "Template")
            and path in FOREIGN_TEMPLATES
        ):
            found.append(f"{path}:{call.lineno}: templates of others need the sandbox")
    return found


FOREIGN_TEMPLATES = {"factory/packs/generated.py"}
"""Where templates of packs are rendered; every other place renders templates of ours."""
SAFE_LOADERS = {"_Loader", "SAFE_LOADER", "yaml.SafeLoader", "yaml.CSafeLoader"}


def _is_safe_loader(call: ast.Call) -> bool:
    loader = keyword(call, "Loader") or (call.args[1] if len(call.args) > 1 else None)
    return loader is not None and dotted(loader) in SAFE_LOADERS


def test_nothing_runs_text_unpickles_or_unpacks_unguarded():
    found = [
        fault for path, text in sources().items() if _WORTH_PARSING.search(text) for fault in faults_of(ast.parse(text), path)
    ]
    assert found == []
    assert len(sources()) > 500, "the scan reads the source"


@pytest.mark.parametrize(
    "text",
    [
        "eval(x)", "exec(x)", "import os\nos.system(x)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=flag)",
        "pickle.load(f)", "torch.load(p)", "torch.load(p, weights_only=False)", "yaml.load(t)", "yaml.load(t, Loader=yaml.Loader)",
        "yaml.unsafe_load(t)", "np.load(p, allow_pickle=True)", "tar.extractall(p)", "shutil.unpack_archive(p)",
        "A.from_pretrained(p, trust_remote_code=True)", "joblib.load(p)",
    ],
)  # fmt: skip
def test_the_scan_sees_what_it_forbids(text):
    assert _WORTH_PARSING.search(text) and faults_of(ast.parse(text))


def test_the_loaders_that_are_called_safe_are_safe():
    import yaml

    from factory import quick_yaml
    from factory.config import layers

    for loader in (quick_yaml.SAFE_LOADER, layers._Loader):
        with pytest.raises(yaml.YAMLError):
            yaml.load("!!python/object/apply:os.system ['true']", Loader=loader)


def test_no_module_reaches_for_a_telemetry_service():
    known = ("sentry_sdk", "posthog", "segment", "analytics", "mixpanel", "amplitude", "opentelemetry", "scarf")
    imported = re.compile(rf"^\s*(?:import|from)\s+({'|'.join(known)})\b", re.MULTILINE)
    assert [f"{path}: {hit[1]}" for path, text in sources().items() for hit in imported.finditer(text)] == []
