"""A piece in words, for `factory pieces show` and docs/techniques.md: read from the code, so that it cannot go stale."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from functools import cache
from typing import Any

from factory.errors import ConfigError, near_miss
from factory.stages.rl.pieces.catalogue import find, installed_names, pieces, settings_text
from factory.stages.rl.pieces.needs import NEEDS
from factory.stages.rl.pieces.piece import Piece


def find_by_key(key: str) -> Piece:
    """The piece `slot.name`, or the only one of that name (of an installed one the whole key is needed).

    Raises ConfigError: unknown, or a name that several slots have; PluginError: an installed piece is broken.
    """
    slot, _, name = key.partition(".")
    if name in installed_names(slot) and key not in pieces():
        return find(slot, name)
    known = pieces()
    found = [piece for piece in known.values() if key in (piece.key, piece.name)]
    if len(found) > 1:
        raise ConfigError(f"'{key}' is in several slots: {', '.join(piece.key for piece in found)}. Give one of these.")
    if not found:
        near = near_miss(key, [*known, *(piece.name for piece in known.values())])
        raise ConfigError(f"there is no piece '{key}'.{near} See: factory pieces list.")
    return found[0]


def piece_row(piece: Piece) -> dict[str, Any]:
    """Everything the catalogue knows of a piece, as plain data."""
    about = field_docs(piece.type)
    return {
        "key": piece.key, "slot": piece.slot, "name": piece.name, "about": inspect.cleandoc(piece.type.__doc__ or ""),
        "formula": piece.formula, "source": piece.source, "caveat": piece.caveat,
        "settings": {name: {"default": default, "about": about.get(name, "")} for name, default in settings_text(piece).items()},
        "needs": {need: NEEDS[need].note for need in sorted(piece.needs)},
        "conflicts": conflicts_of(piece.key),
        "presets": [name for name, preset in _presets().items() if piece.name in preset.pieces.get(piece.slot, {})],
    }  # fmt: skip


def conflicts_of(key: str) -> list[dict[str, Any]]:
    """Rules of the conflict table that speak of the piece."""
    return [
        {"rule": rule.name, "is_error": rule.is_error, "message": rule.message} for rule in _rules() if key in keys_in(rule.name)
    ]


@cache
def keys_in(rule_name: str) -> frozenset[str]:
    """Pieces (`slot.name`) that a rule's condition names, read from its source: the table itself stays free of bookkeeping."""
    return _keys_by_rule().get(rule_name, frozenset())


@cache
def _keys_by_rule() -> dict[str, frozenset[str]]:
    from factory.stages.rl import conflict_rules, one_step_off_rules

    found: dict[str, frozenset[str]] = {}
    for module in (conflict_rules, one_step_off_rules):
        found |= _keys_in_source(ast.parse(inspect.getsource(module)), set(pieces()))
    return found


def _keys_in_source(tree: ast.Module, known: set[str]) -> dict[str, frozenset[str]]:
    """Rule name -> known pieces that its condition names, there or in what it calls."""
    named = {
        target.id if isinstance(target, ast.Name) else "": node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    } | {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}

    def keys(node: ast.AST, depth: int = 3) -> set[str]:
        found = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value in known}
        if depth:
            for name in (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in named):
                found |= keys(named[name], depth - 1)
        return found

    rules: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule" and len(node.args) >= 3:
            name = node.args[0]
            if isinstance(name, ast.Constant):
                rules[str(name.value)] = frozenset(keys(node.args[2]))
    return rules


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass (its bases included), in one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError):
            continue
        for field, after in itertools.pairwise(body):
            is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_doc:
                found[field.target.id] = " ".join(after.value.value.split())  # type: ignore[attr-defined]
    return found


def _presets() -> Any:
    from factory.stages.rl.presets import presets

    return presets()


def _rules() -> Any:
    from factory.stages.rl.conflicts import RULES

    return RULES
