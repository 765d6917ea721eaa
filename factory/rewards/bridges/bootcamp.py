"""InternBootcamp's three-method interface: `case_generator`, `prompt_func`, `verify_score`.

The library's own `verify_score` swallows every exception and returns 0, so a broken verifier looks like a wrong answer
(guides/frameworks.md A.3). Where a bootcamp has the two methods that `verify_score` is made of, `extract_output` and
`_verify_correction`, they are called one by one instead: nothing extracted is `unparsable`, and an exception reaches the
pool, which masks it. Bootcamps that evaluate model output must run where untrusted code may (docs/bridges.md).
"""

from __future__ import annotations

import ast
import importlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from factory.contracts import Sample, Status, Verdict
from factory.errors import DataError, FactoryError, PluginError
from factory.rewards.bridges.bridge import make_sample, origin_of, score_verdict, split_of


def camp_at(target: str) -> Any:
    """An instance of the bootcamp at `module:Class` or `module:Class(size=6, holes=9)`. Raises PluginError naming the target,
    and what the class says of settings that it refuses."""
    module, _, call = target.partition(":")
    name, has_settings, _ = call.partition("(")
    try:
        settings = _literals(call) if has_settings else {}
        return getattr(importlib.import_module(module), name)(**settings)
    except FactoryError:
        raise
    except (ImportError, AttributeError, TypeError, ValueError, SyntaxError) as err:
        raise PluginError(
            f"bootcamp '{target}' cannot be made: {err}. Write MODULE:CLASS of an installed bootcamp, "
            "or MODULE:CLASS(name=value, ...) with plain values."
        ) from err


def _literals(call: str) -> dict[str, Any]:
    """The keyword settings of `Class(name=value, ...)`; values are literals and nothing is executed."""
    node = ast.parse(call, mode="eval").body
    if not isinstance(node, ast.Call) or node.args or any(word.arg is None for word in node.keywords):
        raise ValueError("settings are given by name")
    return {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}


@dataclass(frozen=True)
class CampVerifier:
    """Judges by the bootcamp that a sample's origin names."""

    camps: Mapping[str, str]
    """bootcamp name -> `module:Class`."""
    name: str = "bootcamp"
    partial: bool = False
    version: str = "2"
    """Raise it when a bootcamp's code changes: the cache cannot see that."""
    _made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """Raises what the bootcamp raises; the pool makes it `error`."""
        origin = origin_of(sample, self.name)
        camp_name, identity = origin["camp"], origin["identity"]
        if camp_name not in self.camps:
            raise DataError(f"sample {sample.id}: no bootcamp '{camp_name}' is bridged. Bridged: {', '.join(self.camps)}.")
        if camp_name not in self._made:
            self._made[camp_name] = camp_at(self.camps[camp_name])
        camp = self._made[camp_name]
        completion = _after_thinking(completion)
        if hasattr(camp, "extract_output") and hasattr(camp, "_verify_correction"):
            found = camp.extract_output(completion)
            if found is None:
                return Verdict(0.0, Status.unparsable, f"{camp_name}: no answer in the required form")
            return score_verdict(camp._verify_correction(found, identity), partial=self.partial, what=camp_name)
        return score_verdict(camp.verify_score(completion, identity), partial=self.partial, what=camp_name)


def _after_thinking(completion: str) -> str:
    """What follows the reasoning: bootcamps look for an answer anywhere, and one that stands in the reasoning only is none."""
    _, has_end, rest = completion.rpartition("</think>")
    return rest if has_end else completion.partition("<think>")[0]


@dataclass(frozen=True)
class Bootcamps:
    """Tasks from bootcamp classes, and from files of cases in InternBootcamp's eval format.

    Args:
        camps: name -> `module:Class`, or `module:Class(size=6)`. The routing task is `bootcamp/<name>`.
        files: JSONL of {data_source, prompt, ground_truth}; a row's `data_source` (case-folded) names its bootcamp. A bootcamp
            with rows in a file draws from it only; the others generate.
    """

    camps: Mapping[str, str]
    files: tuple[str, ...] = ()
    name: str = "bootcamp"
    partial: bool = False

    def tasks(self) -> dict[str, str]:
        """See `Bridge`."""
        return {f"bootcamp/{name}": f"InternBootcamp {name}" for name in self.camps}

    def samples(self, task: str, split: str, seed: int) -> Iterator[Sample]:
        """See `Bridge`. Generated cases are seeded through the module `random`, which is all that the interface knows."""
        name = task.partition("/")[2]
        cases = self._stored().get(name)
        found = iter(cases) if cases is not None else _generated(camp_at(self.camps[name]), f"{task}-{seed}")
        seen: set[str] = set()
        for prompt, identity, source in found:
            if prompt not in seen and split_of(prompt) == split:
                seen.add(prompt)
                yield make_sample(task, prompt, None, {"camp": name, "identity": identity}, split=split, source=source)

    def verifier(self) -> CampVerifier:
        """See `Bridge`."""
        return CampVerifier(dict(self.camps), self.name, self.partial)

    def gold(self, sample: Sample) -> str | None:
        """What the bootcamp's own `gold(identity)` gives; the three-method interface has none."""
        origin = origin_of(sample, self.name)
        camp = camp_at(self.camps[origin["camp"]])
        return camp.gold(origin["identity"]) if hasattr(camp, "gold") else None

    def with_files(self, paths: Sequence[str]) -> Bootcamps:
        """The same, drawing from these files too (a folder stands for its *.jsonl). Raises DataError when there is none."""
        found = [file for path in paths for file in _case_files(Path(path).expanduser())]
        return replace(self, files=(*self.files, *found))

    def _stored(self) -> dict[str, list[tuple[str, Any, str]]]:
        rows: dict[str, list[tuple[str, Any, str]]] = {}
        for path in self.files:
            stat = Path(path).stat()
            for name, prompt, source, identity in _rows(path, stat.st_size, stat.st_mtime_ns):
                rows.setdefault(name, []).append((prompt, identity, source))
        return rows


def _case_files(path: Path) -> list[str]:
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"{path}: no file of bootcamp cases. Name JSONL files or a folder of them with --data.")
    return [str(file) for file in files]


@lru_cache(maxsize=64)
def _rows(path: str, size: int, changed_ns: int) -> tuple[tuple[str, str, str, Any], ...]:
    """(bootcamp, prompt, source, identity) of a file as it was at that size and time."""
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            name, prompt, identity = row["data_source"].casefold(), row["prompt"], row["ground_truth"]
        except (ValueError, KeyError, TypeError, AttributeError) as err:
            raise DataError(
                f"{path}:{number}: want data_source, prompt and ground_truth as JSON: {err!r}. Mend the row."
            ) from err
        found.append((name, prompt, f"{Path(path).name}:{number}", identity))
    return tuple(found)


def _generated(camp: Any, seed: str, barren: int = 200) -> Iterator[tuple[str, Any, str]]:
    """Cases without end, or until `barren` in a row repeat an earlier prompt. The global generator is left as it was."""
    ours, seen, repeats = random.Random(seed), set(), 0
    while repeats < barren:
        theirs = random.getstate()
        random.setstate(ours.getstate())
        try:
            identity = camp.case_generator()
            prompt = camp.prompt_func(identity)
        finally:
            ours.setstate(random.getstate())
            random.setstate(theirs)
        # As it will be after the sample crossed a process border.
        plain = json.loads(json.dumps(identity))
        repeats = repeats + 1 if prompt in seen else 0
        if not repeats:
            seen.add(prompt)
            yield prompt, plain, type(camp).__name__
