"""`judges:` of a build: {name: settings}, checked. A judge's name is then a verifier's name in `mixture` and in manifests.

judges:
  helpful: {kind: endpoint, url: "http://localhost:8000/v1", model: Qwen3-32B, criterion: "...", calibration: labelled.jsonl}
mixture:
  open/*: {helpful: 0.3}
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from factory.errors import ConfigError, near_miss
from factory.rewards.formats import shape_named
from factory.rewards.judges.kinds import OWN, kinds
from factory.rewards.mixture import Mixture

STAGE_PATH = "stage:"
"""How a judge's path begins that lies in an earlier stage of the same build."""


@dataclass(frozen=True)
class JudgeSettings:
    """One judge. Which fields matter depends on `kind`."""

    kind: str
    """`endpoint`: an OpenAI-compatible server (vLLM serve); `local`: a generative model folder; `scalar`: the `scorer` folder of a
    reward_model stage; `recorded`: a JSONL of past scores; or a kind that an installed package adds (see `kinds.py`)."""
    url: str = ""
    """endpoint: base address, e.g. http://localhost:8000/v1. Loopback and private addresses need no --online; all others do."""
    model: str = ""
    """endpoint: the served model's name."""
    api_key_env: str = ""
    """endpoint: environment variable that holds the key. Keys never stand in a config."""
    path: str = ""
    """local, scalar: model folder. recorded: JSONL of {sample, completion, score}. `stage:NAME/scorer` is the folder of an earlier
    stage of the same build, which the stage that asks the judge must name in its `reads`."""
    criterion: str = "The answer is correct, and it answers the question."
    """endpoint, local: what an answer is graded for."""
    scale: int = 10
    """endpoint, local: the verdict is a whole number from 0 to this."""
    show_reference: bool = True
    """endpoint, local: the judge also reads the sample's reference."""
    shape: str = ""
    """Output shape whose answer part alone is judged; empty: the whole completion."""
    block: str = ""
    """A further block of that shape which alone is judged instead of the answer: `extension` of `timemaster`."""
    stock: str = ""
    """Regular expression of phrases that fit everything; a text that holds one scores at most `stock_cap` (TimeMaster: 0.4)."""
    stock_cap: float = 0.4
    max_chars: int = 8000
    """endpoint, local: characters of any text that the judge is shown; the middle of longer ones is cut."""
    max_new_tokens: int = 512
    """endpoint, local: longest verdict."""
    timeout_s: float = 60.0
    """Wall seconds for one call, all retries included."""
    retries: int = 1
    """endpoint: further tries within `timeout_s` when the server is busy or breaks off."""
    concurrency: int = 8
    """Calls at once of one process (a local model answers one at a time)."""
    device: str = "cpu"
    """local, scalar: where the model runs."""
    precision: str = "fp32"
    """local, scalar: `fp32` or `bf16`."""
    against: str = "calibration"
    """scalar: `calibration` puts the score through a logistic curve fitted on the labelled set; `reference` pays
    sigmoid(score(candidate) - score(reference)), the Bradley-Terry probability that the candidate beats the reference."""
    weight_cap: float = 0.3
    """Largest share of a task's weights (guides/ecosystem.md 4.2)."""
    calibration: str = ""
    """JSONL of labelled completions: {sample, completion, label}, label true or false. Needed by a judge with a weight."""
    min_agreement: float = 0.8
    """Balanced agreement with the labels below which the judge is refused."""
    max_flip_rate: float = 0.1
    """Share of wrong answers that an injected text may turn into right ones; above it the judge is refused."""
    max_error_rate: float = 0.05
    """Largest share of failed calls among the last 500."""
    version: str = "1"
    """Raise it when what is served under the same name changed: it keys the cache of verdicts."""


_COUNTS = ("scale", "max_chars", "max_new_tokens", "concurrency")
_SHARES = ("stock_cap", "weight_cap", "min_agreement", "max_flip_rate", "max_error_rate")


def read_judges(build: Mapping[str, Any]) -> dict[str, JudgeSettings]:
    """The judges of a build. Raises ConfigError naming the key and the remedy."""
    listed = build.get("judges") or {}
    return {name: _settings(name, row, online=bool(build.get("online"))) for name, row in listed.items()}


def with_stage_paths(build: Mapping[str, Any], inputs: Mapping[str, Path]) -> Mapping[str, Any]:
    """The build with every judge's `stage:NAME/FILE` (in `path` and `calibration`) as the path of that file of an earlier stage.

    Args:
        inputs: folders of the stages that the running stage names in its `reads`.

    Raises:
        ConfigError: a judge names a stage that is not read here.
    """
    found: dict[str, Any] = {}
    for name, row in (build.get("judges") or {}).items():
        found[name] = dict(row)
        for key in ("path", "calibration"):
            text = str(row.get(key) or "")
            if not text.startswith(STAGE_PATH):
                continue
            stage, _, inside = text.removeprefix(STAGE_PATH).partition("/")
            if stage not in inputs:
                raise ConfigError(
                    f"judges.{name}.{key} is '{text}', but this stage does not read '{stage}'. Add it to the stage's `reads`."
                )
            found[name][key] = str(Path(inputs[stage]) / inside)
    return {**build, "judges": found} if found else build


def caps(judges: Mapping[str, JudgeSettings]) -> dict[str, float]:
    """judge -> weight_cap, for `Mixture`."""
    return {name: one.weight_cap for name, one in judges.items()}


def build_mixture(tasks: Mapping[str, Any], build: Mapping[str, Any], known: Iterable[str] | None = None) -> Mixture:
    """The mixture of a manifest's tasks under a build's `mixture` and `judges`. Raises ConfigError."""
    return Mixture(tasks, build.get("mixture") or {}, known=known, judges=caps(read_judges(build)))


def is_local(url: str) -> bool:
    """True for addresses that stay in the building: localhost, loopback and private ones written as numbers."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _settings(name: str, row: Any, *, online: bool) -> JudgeSettings:
    where = f"judges.{name}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} must be a mapping of settings, got {row!r}. Begin with {where}.kind={OWN[0]}.")
    known = {one.name: one for one in fields(JudgeSettings)}
    for key, value in row.items():
        if key not in known:
            raise ConfigError(
                f"{where}.{key} is no setting of a judge.{near_miss(str(key), known)} Settings: {', '.join(known)}."
            )
        _check_type(f"{where}.{key}", value, str(known[key].type))
    if row.get("kind") not in OWN and row.get("kind") not in kinds():
        raise ConfigError(
            f"{where}.kind is {row.get('kind')!r}.{near_miss(str(row.get('kind')), kinds())} Use one of: {', '.join(kinds())}."
        )
    made = JudgeSettings(**row)
    _check_ranges(where, made)
    _check_source(where, made, online=online)
    return made


def _check_type(key: str, value: Any, wanted: str) -> None:
    kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    if not isinstance(value, kinds[wanted]) or (isinstance(value, bool) and wanted != "bool"):
        raise ConfigError(f"{key} is {value!r}, wanted {wanted}. Mend it.")


def _check_ranges(where: str, made: JudgeSettings) -> None:
    for key in _COUNTS:
        if getattr(made, key) < 1:
            raise ConfigError(f"{where}.{key} is {getattr(made, key)}; it must be 1 or more.")
    for key in _SHARES:
        if not 0 <= getattr(made, key) <= 1:
            raise ConfigError(f"{where}.{key} is {getattr(made, key)}; it must be between 0 and 1.")
    try:
        re.compile(made.stock)
    except re.error as err:
        raise ConfigError(f"{where}.stock is no regular expression: {err}. Mend {made.stock!r}.") from err
    if made.block and f"<{made.block}>" not in {opening for opening, _ in shape_named(made.shape or "whole").extras}:
        raise ConfigError(
            f"{where}.block is {made.block!r}, which is no further block of the shape {made.shape or 'whole'!r}. Set {where}.shape too."
        )
    if made.min_agreement <= 0.5:
        raise ConfigError(f"{where}.min_agreement is {made.min_agreement}; a coin agrees half the time. Ask for more than 0.5.")
    if not 0 < made.timeout_s < math.inf:
        raise ConfigError(f"{where}.timeout_s is {made.timeout_s}; want seconds above 0.")
    if made.retries < 0:
        raise ConfigError(f"{where}.retries is {made.retries}; it must be 0 or more.")
    if made.against not in ("calibration", "reference"):
        raise ConfigError(f"{where}.against is {made.against!r}; use calibration or reference.")
    if made.shape:
        shape_named(made.shape)


def _check_source(where: str, made: JudgeSettings, *, online: bool) -> None:
    if made.kind not in OWN:
        if made.url and not online and not is_local(made.url):
            raise _leaves_the_building(where, made)
        return
    if made.kind != "endpoint":
        if not made.path:
            raise ConfigError(f"{where}.path is empty; a judge of kind {made.kind} reads it. Give a {_what(made.kind)}.")
        return
    parts = urlsplit(made.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{where}.url is {made.url!r}; want an address such as http://localhost:8000/v1.")
    if parts.username or parts.password:
        raise ConfigError(
            f"{where}.url holds a user name or password. Put the key into a variable and name it in {where}.api_key_env."
        )
    if not made.model:
        raise ConfigError(f"{where}.model is empty; name the model that {made.url} serves.")
    if not online and not is_local(made.url):
        raise _leaves_the_building(where, made)


def _leaves_the_building(where: str, made: JudgeSettings) -> ConfigError:
    return ConfigError(
        f"{where}.url is {made.url}, which is not a local address: prompts and completions would leave the building. "
        "Serve the judge locally, or allow the network with --online."
    )


def _what(kind: str) -> str:
    return {"local": "model folder", "scalar": "scorer folder of a reward_model stage", "recorded": "JSONL file"}[kind]
