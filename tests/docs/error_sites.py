"""Every place in the code that raises an error of `factory.errors`, with the text of its message, read from the syntax tree.

What a placeholder holds is unknown here and shown as `…`; a name or call is followed to its string when that stands in the same file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("factory", "domains", "stages", "registry")
GAP = "…"


@dataclass(frozen=True)
class Site:
    """One `raise`, or one error built and raised elsewhere."""

    path: str
    line: int
    kind: str
    message: str
    """Text with `…` for what is filled in; only `…` when it is made elsewhere."""

    @property
    def is_elsewhere(self) -> bool:
        """The message comes from a variable or function that this reader does not follow."""
        return not re.sub(r"[…\s.:;,()'\"-]", "", self.message)


@cache
def classes() -> dict[str, type]:
    """Name -> class, of every error in `factory.errors`."""
    from factory import errors

    return {name: one for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.FactoryError)}


def modules() -> list[Path]:
    """Python files of the product, each once: links inside the package are not followed twice."""
    found = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(parent.is_symlink() for parent in path.parents) and "fixtures" not in path.parts:
                found.append(path)
    return found


@cache
def sites() -> tuple[Site, ...]:
    """All of them, by file and line."""
    found = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        strings = Strings(tree)
        for node in ast.walk(tree):
            name = _error_of(node)
            if name is not None:
                message = strings.text(node.args[0]) if node.args else GAP
                found.append(Site(path.relative_to(ROOT).as_posix(), node.lineno, name, " ".join(message.split())))
    return tuple(found)


def _error_of(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    name = getattr(node.func, "id", getattr(node.func, "attr", None))
    return name if name in classes() else None


class Strings:
    """What an expression of one file says, as far as it stands there."""

    def __init__(self, tree: ast.Module) -> None:
        self.values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                pairs = [(target, node.value) for target in node.targets]
                for target, value in list(pairs):
                    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                        pairs += zip(target.elts, value.elts, strict=False)
                for target, value in pairs:
                    if isinstance(target, ast.Name):
                        self.values.setdefault(target.id, []).append(value)
            elif isinstance(node, ast.FunctionDef):
                returned = [one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value is not None]
                self.values.setdefault(f"{node.name}()", []).extend(returned)

    def text(self, node: ast.expr, depth: int = 3) -> str:
        """The longest text that the expression may have."""
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.text(part, depth) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return self.text(node.value, depth - 1) if isinstance(node.value, ast.Name | ast.Call) and depth > 0 else GAP
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self.text(node.left, depth) + self.text(node.right, depth)
        if isinstance(node, ast.IfExp):
            return max((self.text(node.body, depth), self.text(node.orelse, depth)), key=len)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "strip", "format"):
            return self.text(node.func.value, depth) if isinstance(node.func.value, ast.JoinedStr) else GAP
        name = node.id if isinstance(node, ast.Name) else f"{getattr(getattr(node, 'func', None), 'id', '')}()"
        if depth > 0 and name in self.values:
            return max((self.text(value, depth - 1) for value in self.values[name]), key=len, default=GAP)
        return GAP


VERBS = """add allow answer archive ask average begin build bring call change check choose close compare compute continue convert copy correct
count create cut declare delete divide download drop enlarge end export fetch fill finish fix free gather give go hand import increase install keep lay leave
let list load look lower make mark match measure mend merge move name obey open order pass pick place point print publish put quote raise read rebuild record
register remove rename repair repeat replace report reserve resume retry return run save say see select send set shorten show sort spell split start state
stop store reinstall restore re-wrap decode assemble route score transpose want submit supply switch take tell train try turn type unpack unset update upgrade use wait widen write"""
INSTRUCTION = re.compile(
    r"(?:^|[.;:!?,(…`]\s*|\b(?:or|and|then|so|to|please|instead|first|can|must|should|not)\s+)("
    + re.sub(r"\s+", "|", VERBS)
    + r")\b",
    re.IGNORECASE,
)
"""A verb in the form of a command where a clause can begin."""
ALLOWED = re.compile(
    r"\bwant(ed|s)?\b|must be|has to|have to|\bneeds?\b|may (be|hold)|allowed|at least|at most|only\b|Did you mean|looks? like"
    r"|(It|They|Those|There|That) (has|have|are|do):?|\b[A-Z][a-z]+( [a-z.… ]+)?: …|; (it has|bridged|sizes are|names in|weights are|it is a)|are …\.$|It has …",
)
"""What would be right: the values, a list of names, a form, or what is missing."""
COMMAND = re.compile(r"factory [a-z]+|pip install|--[a-z]|same command|resumes|\?$|log\.txt|its own log|warning above| help\.$")


def has_remedy(message: str) -> bool:
    """An instruction begins in it, it says what would be right, or it names the command, log or question that leads on."""
    return any(form.search(message) for form in (INSTRUCTION, ALLOWED, COMMAND))


def is_relayed(message: str) -> bool:
    """The message of another error follows a place, such as `stages.rl: …`: that one has the remedy, and is checked where it is made."""
    return bool(re.search(r"(: …|…: …\.?|: ….|\(….*\): …)$", message))


def without_remedy() -> Iterator[Site]:
    """Sites whose message is known, is not another error passed on, and tells no action."""
    for site in sites():
        if not site.is_elsewhere and not has_remedy(site.message) and not is_relayed(site.message):
            yield site
