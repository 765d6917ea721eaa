"""The other ways of `factory eval`: an address, several attempts, another harness, and comparing with an earlier measurement."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.cli.export import model_folder
from factory.cli.output import emit_json, interval, percent, say, table
from factory.errors import ConfigError
from factory.evaluation.endpoint import Endpoint, is_address, open_endpoint

if TYPE_CHECKING:
    from factory.config.compose import Composed
    from factory.report.read import Measured

__all__ = ["Asked", "by_answers", "compared_to", "harness", "is_address", "say_against", "write_shape"]
RESAMPLES = 2000


@dataclass(frozen=True)
class Asked:
    """Options of a measurement by answers."""

    name: str | None
    api_key_env: str | None
    attempts: int
    temperature: float
    top_p: float
    concurrency: int
    online: bool
    against: str | None


def _model(model: str, name: str | None, api_key_env: str | None, online: bool) -> tuple[Endpoint | Path, str]:
    """Where the model is, and how it is called in results."""
    if is_address(model):
        endpoint = open_endpoint(model, name, key_env=api_key_env, online=online)
        return endpoint, endpoint.model
    if name is not None or api_key_env is not None:
        raise ConfigError("--name and --api-key-env go with an address. Leave them out for a model on this machine.")
    return model_folder(model), model


def by_answers(model: str, composed: Composed, asked: Asked, as_json: bool) -> None:
    """Measure over an address, or with sampled answers."""
    from factory.config.validate import require_data
    from factory.evaluation.run import Wanted, measure
    from factory.launch.devices import quiet_without_gpu
    from factory.registry.home import Home

    require_data(composed.config, composed.provenance)
    quiet_without_gpu()
    where, called = _model(model, asked.name, asked.api_key_env, asked.online)
    wanted = Wanted(
        composed.config.domain, composed.plain, attempts=asked.attempts, temperature=asked.temperature, top_p=asked.top_p,
        concurrency=asked.concurrency,
    )  # fmt: skip
    found = measure(where, called, wanted, Home.find().root / "evals", _progress())
    folder = Path(found["folder"])
    if asked.against is not None:
        found["against"] = compared_to(asked.against, folder, composed.config.eval)
    if as_json:
        emit_json(found)
        return
    primary = found["splits"]["test"]["primary"]
    rows = [
        (
            primary["name"] if asked.attempts == 1 else f"{primary['name']}, first attempt",
            percent(primary["value"]),
            interval(primary["ci"]),
            primary["n"],
        )
    ]
    rows += [
        (key, percent(row["value"]), interval(row["ci"]), row["n"]) for key, row in found.get("attempts_figures", {}).items()
    ]
    rows += [(f"  {task}", percent(row["value"]), "", row["n"]) for task, row in found["splits"]["test"]["tasks"].items()]
    say(
        table(
            ("figure", "value", "95 % interval", "n"),
            rows,
            title=f"{called} on {composed.config.domain}, test",
            right=("value", "n"),
        )
    )
    statuses = found["splits"]["test"]["statuses"]
    say(f"answers  {', '.join(f'{count} {status}' for status, count in statuses.items())}")
    if asked.against is not None:
        say_against(found["against"], asked.against)
    say(f"folder   {folder}", f"lm-eval  {folder / 'lm_eval'}")


def _progress() -> Any:
    """One line per tenth on stderr."""
    told = [0]

    def tell(done: int, total: int) -> None:
        if 10 * done // total > told[0]:
            told[0] = 10 * done // total
            print(f"answers {done}/{total}", file=sys.stderr, flush=True)

    return tell


def compared_to(against: str, folder: Path, settings: Any) -> dict[str, Any] | None:
    """The paired difference to an earlier measurement: a folder with samples.jsonl, or a run of `factory eval`."""
    from factory.evaluation.run import against as paired

    start = Path(against).expanduser()
    if not (start / "samples.jsonl").is_file():
        inside = sorted(start.glob("stages/*/samples.jsonl"))
        if not inside:
            raise ConfigError(
                f"--against {against}: holds no samples.jsonl. Give the folder that an earlier `factory eval` printed."
            )
        start = inside[0].parent
    return paired(start, folder, resamples=settings.bootstrap, seed=settings.seed)


def say_against(found: dict[str, Any] | None, against: str) -> None:
    """One line."""
    if found is None:
        say(f"against  {against}: no question was put to both")
        return
    low, high = found["diff_ci"]
    sure = "the interval holds 0" if low <= 0 <= high else "the difference is shown"
    say(
        f"against  {against}: {100 * found['diff']:+.1f} points {interval(found['diff_ci'], signed=True)} over {found['n']} questions; {sure}"
    )


def write_shape(measured: Measured, model: str, composed: Composed) -> None:
    """The same results in lm-eval's shape, in the run's `lm_eval/`."""
    from factory.evaluation.lm_eval_shape import write_lm_eval
    from factory.plugins import manifest_of

    config, figures = composed.config, measured.figures
    write_lm_eval(
        measured.folder.parent.parent / "lm_eval", config.domain, figures["eval"], measured.rows(), model=model,
        settings={"max_gen_toks": config.eval.max_new_tokens, "temperature": 0.0, "do_sample": False},
        extra={"pack_version": manifest_of(config.domain).version, "eval": figures},
        date=time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime()),
    )  # fmt: skip


def harness(
    model: str, suite: str, against: str | None, *, limit: int | None, include: Path | None, name: str | None, api_key_env: str | None,
    online: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run lm-eval-harness on the model, and with `against` on the model before, and say the difference."""
    from factory.evaluation import harness as other
    from factory.launch.devices import quiet_without_gpu
    from factory.registry.home import Home

    wanted = other.Suite(other.read_suite(suite), include.expanduser().absolute() if include else None, limit, online=online)
    other.find_program()
    quiet_without_gpu()
    root = Home.find().root / "evals" / f"lm-eval-{time.strftime('%Y%m%d-%H%M%S')}"
    sides: dict[str, Any] = {}
    for side, one in (("before", against), ("after", model)):
        if one is not None:
            where, called = _model(one, name if side == "after" else None, api_key_env if side == "after" else None, online)
            folder = where if isinstance(where, Endpoint) else other.merged_for_harness(where, root / f"{side}-model")
            print(f"lm_eval on {called}", file=sys.stderr, flush=True)
            sides[side] = other.run_harness(folder, wanted, root / side)
    rows = other.compare(sides["before"], sides["after"], resamples=RESAMPLES, seed=0) if against is not None else []
    found = other.figures(sides["after"])
    if as_json:
        emit_json({"model": model, "tasks": found, "against": against, "compared": rows, "folder": str(root)})
        return
    if against is None:
        cells = [(task, metric, f"{value:.4f}") for task, row in found.items() for metric, value in row.items()]
        say(table(("task", "metric", "value"), cells, title=f"{model}, by lm-eval", right=("value",)))
    else:
        cells = [
            (row["task"], row["metric"], "" if row["before"] is None else f"{row['before']:.4f}", f"{row['after']:.4f}",
             "" if row["diff"] is None else f"{row['diff']:+.4f}",
             "" if row["diff_ci"] is None else f"[{row['diff_ci'][0]:+.4f}, {row['diff_ci'][1]:+.4f}]", row["n"])
            for row in rows
        ]  # fmt: skip
        columns = ("task", "metric", "before", "after", "difference", "95 % interval", "n")
        say(table(columns, cells, title=f"{against} -> {model}, by lm-eval", right=("before", "after", "difference", "n")))
    say(f"folder   {root}")
