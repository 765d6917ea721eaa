"""NAVSIM's scores from given terms, and the official scorer in a process of its own.

    PDMS  = NC DAC (5 TTC + 2 C + 5 EP) / 12
    EPDMS = product of NC, DAC, DDC, TLC x (5 EP + 5 TTC + 2 LK + 2 HC + 2 EC) / 16

The formulas only combine terms that NAVSIM computed. What our own simulator gives is called `pdm_proxy` and is reported apart.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from factory.errors import ConfigError, DataError

GATES = ("NC", "DAC")
GATES_EXTENDED = ("NC", "DAC", "DDC", "TLC")
WEIGHTS = {"TTC": 5.0, "C": 2.0, "EP": 5.0}
WEIGHTS_EXTENDED = {"EP": 5.0, "TTC": 5.0, "LK": 2.0, "HC": 2.0, "EC": 2.0}
HALVES = ("NC", "DDC")
"""Terms that are 0, 1/2 or 1; the other gates are 0 or 1."""
SCRIPT = Path(__file__).parent / "sidecars" / "navsim_score.py"
HORIZON_POSES = 8
"""Poses of a NAVSIM trajectory: 4 s at 2 Hz."""
TIMEOUT_S = 24 * 3600


def _checked(terms: Mapping[str, float], wanted: Sequence[str]) -> dict[str, float]:
    missing = [name for name in wanted if name not in terms]
    if missing:
        raise ValueError(f"the terms lack {', '.join(missing)}; want {', '.join(wanted)}")
    for name in wanted:
        value = terms[name]
        if not (isinstance(value, int | float) and math.isfinite(value) and 0.0 <= value <= 1.0):
            raise ValueError(f"{name} is {value!r}; want a number from 0 to 1")
        allowed = (0.0, 0.5, 1.0) if name in HALVES else (0.0, 1.0)
        if name in GATES_EXTENDED and value not in allowed:
            raise ValueError(f"{name} is {value!r}; want one of {', '.join(f'{v:g}' for v in allowed)}")
    return {name: float(terms[name]) for name in wanted}


def _combined(terms: Mapping[str, float], gates: Sequence[str], weights: Mapping[str, float]) -> float:
    gate = math.prod(terms[name] for name in gates)
    return gate * math.fsum(weight * terms[name] for name, weight in weights.items()) / math.fsum(weights.values())


def pdms(terms: Mapping[str, float]) -> float:
    """PDMS of one trajectory. Raises ValueError for missing terms or values out of range."""
    return _combined(_checked(terms, (*GATES, *WEIGHTS)), GATES, WEIGHTS)


def epdms(terms: Mapping[str, float], human: Mapping[str, float] | None = None) -> float:
    """EPDMS of one trajectory.

    Args:
        terms: NC, DAC, DDC, TLC, EP, TTC, LK, HC, EC.
        human: the human driver's terms on the same scene; a term that the driver fails (0) counts as 1.

    Raises:
        ValueError: missing terms or values out of range.
    """
    found = _checked(terms, (*GATES_EXTENDED, *WEIGHTS_EXTENDED))
    if human is not None:
        found = {name: 1.0 if human.get(name) == 0 else value for name, value in found.items()}
    return _combined(found, GATES_EXTENDED, WEIGHTS_EXTENDED)


def second_stage(scores: Sequence[float], distances_m: Sequence[float], sigma_m: float) -> float:
    """Mean of the second stage's scores, weighted by a Gaussian of how far each start is from where the first stage ended.

    Args:
        sigma_m: width of the Gaussian in m; NAVSIM's configuration has it.

    Raises:
        ValueError: no scores, different lengths, or `sigma_m` not above 0.
    """
    if not scores or len(scores) != len(distances_m) or not sigma_m > 0:
        raise ValueError("want as many distances as scores, at least one, and sigma_m above 0")
    nearest = min(distance * distance for distance in distances_m)
    weights = [math.exp(-(distance * distance - nearest) / (2 * sigma_m * sigma_m)) for distance in distances_m]
    return math.fsum(w * s for w, s in zip(weights, scores, strict=True)) / math.fsum(weights)


def score_in_sidecar(
    trajectories: Mapping[str, Sequence[Sequence[float]]],
    *,
    python: str,
    metric_cache: str,
    folder: Path,
    script: Path = SCRIPT,
    timeout_s: float = TIMEOUT_S,
) -> dict[str, dict[str, float]]:
    """Score trajectories by an installed NAVSIM, in its own environment and process.

    The protocol is files: `trajectories.jsonl` ({"token", "poses"}) goes out, `scores.jsonl` ({"token", "score", terms ...} or
    {"token", "fault"}) comes back. A script of your own that keeps it may stand in for ours (NAVSIM's interface changes between versions).

    Args:
        trajectories: token -> 8 poses (ahead m, left m, heading rad) at 2 Hz, in the car's frame.
        python: interpreter of the environment in which NAVSIM is installed.
        metric_cache: folder that NAVSIM's run_metric_caching.py wrote.
        folder: where the two files go.

    Returns:
        token -> its figures, as NAVSIM names them.

    Raises:
        ConfigError: the interpreter does not exist or has no NAVSIM.
        DataError: a trajectory of another shape, a failed scorer, or tokens without a score.
    """
    for token, poses in trajectories.items():
        if len(poses) != HORIZON_POSES or any(len(pose) != 3 or not all(map(math.isfinite, pose)) for pose in poses):
            raise DataError(f"trajectory {token}: want {HORIZON_POSES} poses of three finite numbers (4 s at 2 Hz).")
    folder.mkdir(parents=True, exist_ok=True)
    asked, answered = folder / "trajectories.jsonl", folder / "scores.jsonl"
    rows = (
        json.dumps({"token": token, "poses": [list(map(float, pose)) for pose in poses]}) for token, poses in trajectories.items()
    )
    asked.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    answered.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [python, str(script), str(asked), str(answered), metric_cache]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as err:
        raise ConfigError(
            f"{python}: no such interpreter. Name the python of the environment in which NAVSIM is installed."
        ) from err
    except subprocess.TimeoutExpired as err:
        raise DataError(f"NAVSIM's scorer took longer than {timeout_s:g} s. Score fewer trajectories at a time.") from err
    if done.returncode == 3:
        raise ConfigError(
            f"{python} has no NAVSIM: {done.stderr.strip()[-300:]} Install the devkit there (github.com/autonomousvision/navsim); "
            "it pins old versions, so keep it apart from the factory."
        )
    if done.returncode or not answered.is_file():
        raise DataError(f"NAVSIM's scorer ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return _read_scores(answered, trajectories)


def _read_scores(path: Path, trajectories: Mapping[str, object]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    faults: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "fault" in row:
            faults[str(row["token"])] = str(row["fault"])
        else:
            found[str(row["token"])] = {key: float(value) for key, value in row.items() if key != "token"}
    missing = [token for token in trajectories if token not in found]
    if missing:
        raise DataError(f"{len(missing)} of {len(trajectories)} trajectories have no score, first {missing[0]}: "
                        f"{faults.get(missing[0], 'the scorer did not mention it')}.")  # fmt: skip
    return found
