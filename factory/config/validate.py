"""Rules that a type cannot say: ranges, and settings that must agree. Each refusal names key, place and remedy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path as FilePath
from typing import Any

from factory.config.provenance import Path, Provenance, dotted
from factory.config.schema import (
    AdapterConfig,
    AdapterKind,
    BuildConfig,
    DataConfig,
    EvalConfig,
    LaunchConfig,
    OptimConfig,
    PoolConfig,
    StageConfig,
    TrainStageConfig,
    VllmConfig,
)
from factory.contracts import Manifest
from factory.errors import ConfigError, near_miss
from factory.redaction import redact, secret_in


@dataclasses.dataclass(frozen=True)
class Rule:
    """A range in words and as a test. NaN fails every test, because each compares."""

    wanted: str
    holds: Callable[[Any], bool]


COUNT = Rule("1 or more", lambda x: x >= 1)
COUNT_OR_ZERO = Rule("0 or more", lambda x: x >= 0)
POSITIVE = Rule("a finite number above 0", lambda x: 0 < x < math.inf)
NOT_NEGATIVE = Rule("a finite number of 0 or more", lambda x: 0 <= x < math.inf)
NULL_OR_NOT_NEGATIVE = Rule("null, or a finite number of 0 or more", lambda x: x is None or 0 <= x < math.inf)
SHARE = Rule("between 0 and 1", lambda x: 0 <= x <= 1)
BELOW_ONE = Rule("0 or more and less than 1", lambda x: 0 <= x < 1)
SEED = Rule("between 0 and 2**32 - 1", lambda x: 0 <= x < 2**32)

RULES: dict[type, dict[str, Rule]] = {
    OptimConfig: {
        "lr": POSITIVE, "vision_lr_scale": NOT_NEGATIVE, "projector_lr_scale": NULL_OR_NOT_NEGATIVE, "language_lr_scale": NOT_NEGATIVE,
        "warmup_steps": COUNT_OR_ZERO, "min_lr_ratio": SHARE, "beta1": BELOW_ONE,
        "beta2": BELOW_ONE, "weight_decay": NOT_NEGATIVE, "clip_norm": POSITIVE, "micro_batch_size": COUNT_OR_ZERO,
        "checkpoint_every": COUNT_OR_ZERO,
    },
    AdapterConfig: {"rank": COUNT, "alpha": COUNT, "dropout": BELOW_ONE},
    DataConfig: {"max_bad_fraction": SHARE},
    PoolConfig: {
        "workers": COUNT, "timeout_s": Rule("0.01 or more", lambda x: x >= 0.01), "max_error_rate": SHARE, "memory_mib": Rule("128 or more", lambda x: x >= 128),
        "cache_mib": COUNT_OR_ZERO,
    },
    EvalConfig: {
        "samples": COUNT, "validation_samples": COUNT, "batch_size": COUNT, "max_new_tokens": COUNT, "bootstrap": COUNT,
        "seed": SEED,
    },
    LaunchConfig: {
        "processes": COUNT, "zero_stage": Rule("-1 (off), 0, 1, 2 or 3", lambda x: -1 <= x <= 3), "threads": COUNT,
        "device_gib": NOT_NEGATIVE, "collective_timeout_s": POSITIVE,
    },
    VllmConfig: {
        "gpu_memory_share": Rule("above 0 and at most 1", lambda x: 0 < x <= 1), "tensor_parallel": COUNT, "ready_timeout_s": POSITIVE,
        "request_timeout_s": POSITIVE, "restarts": COUNT_OR_ZERO, "canary_nats": NOT_NEGATIVE,
    },
    BuildConfig: {"seed": SEED},
}  # fmt: skip
"""Dataclass -> field -> rule. Stage kinds bring their own through an optional `validate(key)` method."""


def validate(config: BuildConfig, chain: Provenance, manifest: Manifest) -> None:
    """Check a whole config. Raises ConfigError for the first broken rule."""
    for path, section in sections(config, ()):
        for name, rule in RULES.get(type(section), {}).items():
            value = getattr(section, name)
            if not rule.holds(value):
                key = (*path, name)
                raise ConfigError(
                    f"{_at(chain, key)}{dotted(key)} is {value}; it must be {rule.wanted}. "
                    f"Set {dotted(key)} to a value in that range."
                )
    _refuse_secrets(dataclasses.asdict(config), (), chain)
    _check_stages(config, chain)
    _check_base(config, chain)
    _check_mixture(config, chain, manifest)


def sections(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Every dataclass in a config with its path, parents first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield path, value
        for part in dataclasses.fields(value):
            yield from sections(getattr(value, part.name), (*path, part.name))
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield from sections(inside, (*path, str(key)))


def _refuse_secrets(value: Any, path: Path, chain: Provenance) -> None:
    """Settings are copied into resolved.yaml, plans, manifests and cards, so none may hold a secret."""
    if isinstance(value, dict | list | tuple):
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            _refuse_secrets(inside, (*path, str(key)), chain)
    elif isinstance(value, str) and (what := secret_in(value)):
        raise ConfigError(
            f"{redact(_at(chain, path))}{dotted(path)} holds {what}, a secret that would be copied into run records and manifests. Keep it in "
            "an environment variable and name the variable (judges: api_key_env), or in the tool's own login."
        )


def _at(chain: Provenance, path: Path) -> str:
    place = chain.where(path)
    return f"{place}: " if place else ""


def _check_stages(config: BuildConfig, chain: Provenance) -> None:
    earlier: list[str] = []
    for name, stage in config.stages.items():
        key = ("stages", name)
        if stage.start is not None and stage.start not in ("base", *earlier):
            raise ConfigError(
                f"{_at(chain, (*key, 'start'))}stages.{name}.start is {stage.start!r}, which is no stage before it."
                f"{near_miss(stage.start, earlier)} Use base or one of: "
                f"{', '.join(earlier) or 'none yet'}; or move it with `after:`."
            )
        if (
            isinstance(stage, TrainStageConfig)
            and stage.adapter.kind is not AdapterKind.none
            and not stage.adapter.targets.strip()
        ):
            raise ConfigError(
                f"{_at(chain, (*key, 'adapter', 'targets'))}stages.{name}.adapter.targets is empty, so the adapter would train "
                "nothing. Set it to all-linear or to module names joined by commas."
            )
        _own_rules(name, stage, chain)
        earlier.append(name)


def _own_rules(name: str, stage: StageConfig, chain: Provenance) -> None:
    check = getattr(stage, "validate", None)
    if check is None:
        return
    try:
        check(f"stages.{name}")
    except ConfigError as err:
        place = _place_of_named_key(str(err), name, chain)
        raise ConfigError(f"{place}: {err}" if place else str(err)) from err


def _place_of_named_key(message: str, name: str, chain: Provenance) -> str:
    """Place of the first setting of the stage that the message names; a stage's own rules do not know lines."""
    named = [key for key in chain if key.startswith(f"stages.{name}.") and key in message]
    return chain[max(named, key=len)][-1].where if named else ""


def _check_base(config: BuildConfig, chain: Provenance) -> None:
    """Only what can be told from the name: a recipe for a hub model composes on a machine that does not have it."""
    known = ("embedded-text", "embedded-vl", "embedded-dna")
    if config.base.startswith("embedded-") and config.base not in known:
        raise ConfigError(
            f"{_at(chain, ('base',))}base is '{config.base}'.{near_miss(config.base, known)} "
            f"The embedded bases are {', '.join(known)}."
        )


def _check_mixture(config: BuildConfig, chain: Provenance, manifest: Manifest) -> None:
    for task, weights in config.mixture.items():
        if not any(fnmatchcase(task, known) or fnmatchcase(known, task) for known in manifest.tasks):
            raise ConfigError(
                f"{_at(chain, ('mixture', task))}mixture.{task}: the pack {manifest.name} has no task '{task}'."
                f"{near_miss(task, manifest.tasks)} Tasks: {', '.join(manifest.tasks) or 'none'}."
            )
        for verifier, weight in weights.items():
            if not NOT_NEGATIVE.holds(weight):
                key = ("mixture", task, verifier)
                raise ConfigError(
                    f"{_at(chain, key)}{dotted(key)} is {weight}; weights are finite and 0 or more. "
                    "Use 0 to switch a verifier off."
                )


def require_data(config: BuildConfig, chain: Provenance) -> None:
    """Refuse data paths that do not exist, before any work. Hub ids are left to the loader when the network is on."""
    for path in config.data.paths:
        if "://" not in path and not FilePath(path).exists() and not config.online:
            raise ConfigError(
                f"{_at(chain, ('data', 'paths'))}data path '{path}' does not exist. Check the path; "
                "a hub data set needs --online."
            )
