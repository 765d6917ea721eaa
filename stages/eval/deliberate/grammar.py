"""The text of `--deliberate`, read and checked: `METHOD[:COUNT][,KEY=VALUE]...`. No torch, no model.

majority:8                              best_of:8,verifier=format        best_of:8,scorer=DIR,temperature=0.7
align3,behaviour=FILE,safety=FILE       critic:2,critic=DIR              force_answer:256,answer=64
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory.errors import ConfigError, near_miss


@dataclass(frozen=True)
class Deliberation:
    """One checked way to deliberate."""

    method: str
    count: int = 0
    """Draws (majority, best_of), rounds (critic), thinking tokens (force_answer); 0 where the method has none."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """All options of the method, defaults filled in; paths are absolute."""
    given: tuple[str, ...] = ()
    """Options that the text sets, in its order."""

    def __str__(self) -> str:
        """The same in the grammar, with absolute paths."""
        head = f"{self.method}:{self.count}" if self.count else self.method
        return ",".join([head, *(f"{name}={self.options[name]}" for name in self.given)])


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _path(text: str) -> str:
    return str(Path(text).expanduser().absolute())


@dataclass(frozen=True)
class Option:
    """A KEY of the grammar."""

    read: Callable[[str], Any]
    wanted: str
    default: Any = None


_FILE = Option(_path, "a text file")
_FOLDER = Option(_path, "a model folder")
_COUNT = Option(_count, "a whole number from 1 up")
_SEED = Option(_seed, "a whole number from 0 up")
_GREEDY = Option(_number, "a number from 0 up", 0.0)
_FREE = Option(_number, "a number above 0", 1.0)
# Temperature 1 is the model's own distribution; the guide gives no other default for voting.


@dataclass(frozen=True)
class Method:
    """A METHOD of the grammar."""

    count: str
    """What COUNT means; empty when the method takes none."""
    options: Mapping[str, Option]
    needs: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    """Exactly one of these options is given."""
    example: str = ""


METHODS: Mapping[str, Method] = {
    "majority": Method("draws", {"temperature": _FREE, "seed": _SEED}, example="majority:8"),
    "best_of": Method(
        "draws", {"verifier": Option(str, "a verifier of the pack"), "scorer": _FOLDER, "temperature": _FREE, "seed": _SEED},
        one_of=("verifier", "scorer"), example="best_of:8,verifier=format",
    ),
    "align3": Method(
        "", {"behaviour": _FILE, "safety": _FILE, "thinking": _COUNT, "temperature": _GREEDY, "seed": _SEED},
        needs=("behaviour", "safety"), example="align3,behaviour=FILE,safety=FILE",
    ),
    "critic": Method(
        "rounds", {"critic": _FOLDER, "critique": _COUNT, "temperature": _GREEDY, "seed": _SEED}, example="critic:2"
    ),
    "force_answer": Method(
        "thinking tokens", {"answer": _COUNT, "temperature": _GREEDY, "seed": _SEED}, example="force_answer:256"
    ),
}  # fmt: skip
"""`thinking`, `critique` and `answer` are tokens; without them `eval.max_new_tokens`. `seed` defaults to `eval.seed`."""

_PATHS = ("behaviour", "safety", "scorer", "critic")


def read_deliberation(text: str) -> Deliberation:
    """Read `--deliberate`.

    Raises:
        ConfigError: an unknown method or key (with a near miss), a missing or superfluous count, a value of the wrong kind.
    """
    head, *rest = [part.strip() for part in text.split(",")]
    name, colon, count_text = (part.strip() for part in head.partition(":"))
    if name not in METHODS:
        raise ConfigError(f"deliberate: unknown method '{name}'.{near_miss(name, METHODS)} Use one of: {', '.join(METHODS)}.")
    method = METHODS[name]
    count = _read_count(name, method, count_text, is_given=bool(colon))
    given = _read_options(name, method, rest)
    if method.count == "draws" and given.get("temperature") == 0:
        raise ConfigError(f"deliberate: {name} with temperature=0 draws the same text {count} times. Set a temperature above 0.")
    defaults = {key: option.default for key, option in method.options.items()}
    return Deliberation(name, count, defaults | given, tuple(given))


def _read_count(name: str, method: Method, text: str, *, is_given: bool) -> int:
    if not method.count:
        if is_given:
            raise ConfigError(f"deliberate: {name} takes no number, got '{text}'. Write {method.example}.")
        return 0
    try:
        count = _count(text)
    except ValueError as err:
        raise ConfigError(
            f"deliberate: {name} needs a number of {method.count} (1 or more) after a colon, got '{text}'. Write {method.example}."
        ) from err
    if method.count == "draws" and count < 2:
        raise ConfigError(f"deliberate: {name}:1 chooses among one draw. Write {method.example}.")
    return count


def _read_options(name: str, method: Method, parts: Sequence[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in method.options:
            raise ConfigError(
                f"deliberate: {name} has no option '{key}'.{near_miss(key, method.options)} It has: {', '.join(method.options)}."
            )
        if key in given:
            raise ConfigError(f"deliberate: {name} is given {key} twice. Keep one.")
        try:
            if not equals or not value:
                raise ValueError
            given[key] = method.options[key].read(value)
        except ValueError as err:
            wanted = method.options[key].wanted
            raise ConfigError(f"deliberate: {name} wants {key}={wanted}, got '{value}'. Example: {method.example}.") from err
    missing = [key for key in method.needs if key not in given]
    if missing:
        raise ConfigError(f"deliberate: {name} needs {' and '.join(missing)}. Write {method.example}.")
    if method.one_of and sum(key in given for key in method.one_of) != 1:
        raise ConfigError(f"deliberate: {name} needs exactly one of {' and '.join(method.one_of)}. Write {method.example}.")
    return given


def named_files(text: str) -> list[str]:
    """Files and folders that the text names; their content changes what is measured. Empty for the empty text."""
    if not text:
        return []
    wanted = read_deliberation(text)
    return [wanted.options[key] for key in _PATHS if wanted.options.get(key)]


def check_against(wanted: Deliberation, verifiers: Sequence[str]) -> None:
    """Refuse what the pack or the disk does not have. Raises ConfigError: unknown verifier, missing or empty file, no folder."""
    name = wanted.options.get("verifier")
    if name and name not in verifiers:
        raise ConfigError(
            f"deliberate: the pack has no verifier '{name}'.{near_miss(name, verifiers)} It has: {', '.join(sorted(verifiers))}."
        )
    for key in ("behaviour", "safety"):
        if wanted.options.get(key):
            read_text(key, wanted.options[key])
    for key in ("scorer", "critic"):
        folder = wanted.options.get(key)
        if folder and not Path(folder).is_dir():
            raise ConfigError(f"deliberate: {key}={folder} is no folder. Give the model folder that a stage wrote.")


def read_text(key: str, path: str) -> str:
    """The content of a specification file. Raises ConfigError when it cannot be read or is empty."""
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"deliberate: {key}={path} cannot be read as text: {err}. Give a text file.") from err
    if not content:
        raise ConfigError(f"deliberate: {key}={path} is empty. Write the specification into it.")
    return content
