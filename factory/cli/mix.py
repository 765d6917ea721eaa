"""`factory mix`: learn from past runs how much of each data set to train on, and propose the next mixture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli import options
from factory.cli.output import emit_json, say, table
from factory.errors import ConfigError

if TYPE_CHECKING:
    from factory.datamix.learn import Learned

app = typer.Typer(no_args_is_help=True, help="Learn a data mixture from past runs (MoDoMoDo): seeds, fit, search.")

Runs = Annotated[list[str], typer.Argument(help="Runs: names under FACTORY_HOME/runs, or their folders.")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Config key of the weights, such as pack.shares; without it the `mix` sampler of the rl stage."),
]
Stage = Annotated[str | None, typer.Option("--stage", help="Stage whose eval is the score; without it the rl stage.")]
Task = Annotated[str | None, typer.Option("--task", help="Score one task; without it the primary figure.")]
Ridge = Annotated[float, typer.Option("--ridge", min=0.0, help="Shrink pair effects; lets fewer runs fix the fit. 0: none.")]


@app.command()
def fit(
    runs: Runs, key: Key = None, stage: Stage = None, task: Task = None, ridge: Ridge = 0.0, as_json: options.Json = False
) -> None:
    """Fit score(w) = a + b.w + w'Cw to the runs and report its leave-one-out error. Scores are of the validation split."""
    learned = _learned(runs, key, stage, task, ridge)
    if as_json:
        emit_json(fit_json(learned))
        return
    _say_fit(learned)
    say("next: factory mix search with the same runs")


@app.command()
def search(
    runs: Runs, key: Key = None, stage: Stage = None, task: Task = None, ridge: Ridge = 0.0,
    within: Annotated[
        float, typer.Option("--within", help="Share of the data by which it may differ from a mixture that was run; 1: any.")
    ] = 0.25,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the starting points.")] = 0,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """Propose the mixture of the highest predicted score, as a ready --set."""
    from dataclasses import asdict

    from factory.datamix.learn import propose

    if not 0 < within <= 1:
        raise ConfigError(f"--within is a share of the data, above 0 and at most 1; got {within}.")
    learned = _learned(runs, key, stage, task, ridge)
    found = propose(learned, within=within, seed=seed)
    if as_json:
        emit_json({**asdict(found), "fit": fit_json(learned)})
        return
    _say_fit(learned)
    say(
        table(
            ("set", "weight"),
            [(name, f"{weight:.4f}") for name, weight in found.weights.items()],
            right=("weight",),
            title="Proposed",
        )
    )
    say(f"predicted {found.predicted:.4f}, best run {found.best_measured:.4f}, {found.distance:.0%} away from the nearest run")
    for note in found.notes[len(learned.notes) :]:
        say(f"note: {note}")
    say(f"next: factory build … {found.setting}")


@app.command()
def seeds(
    sets: Annotated[list[str], typer.Argument(help="Names of the sets, as in the samples' source or task.")],
    key: Annotated[
        str, typer.Option("--key", help="Config key of the weights.")
    ] = "stages.rl.pieces.sampler.mix.weights",
    pairs: Annotated[bool, typer.Option("--pairs", help="Pairs too, so that a fit needs no ridge.")] = False,
    as_json: options.Json = False,
) -> None:  # fmt: skip
    """List the mixtures to run first: each set alone, each left out, all."""
    from factory.datamix.seeds import as_set, is_same, pair_mixtures, seed_mixtures

    if len(set(sets)) < max(2, len(sets)):
        raise ConfigError(f"a mixture needs two or more different sets, got: {', '.join(sets)}.")
    found = seed_mixtures(sets)
    if pairs:
        found |= {t: w for t, w in pair_mixtures(sets).items() if not any(is_same(w, other) for other in found.values())}
    if as_json:
        emit_json([{"title": title, "weights": weights, "setting": as_set(key, weights)} for title, weights in found.items()])
        return
    say(table(("mixture", "setting"), [(title, as_set(key, weights)) for title, weights in found.items()]))


def _learned(runs: list[str], key: str | None, stage: str | None, task: str | None, ridge: float) -> Learned:
    from factory.datamix.learn import learn
    from factory.datamix.runs import find_run, read_run

    return learn([read_run(find_run(name), key=key, stage=stage, task=task) for name in runs], ridge=ridge)


def fit_json(learned: Learned) -> dict[str, Any]:
    """The fit as plain data: `score(w) = a + b.w + w'Cw` over `sets` in order."""
    model = learned.model
    return {
        "sets": list(model.names), "a": 0.0, "b": model.beta_K.tolist(), "C": (model.gamma_KK / 2).tolist(), "ridge": model.ridge,
        "condition": model.condition, "rmse": model.rmse, "loo_rmse": model.loo_rmse, "loo_rmse_of_mean": model.loo_rmse_mean,
        "metric": learned.runs[0].metric, "split": "validation", "notes": list(learned.notes),
        "runs": [
            {"run": run.name, "weights": dict(run.weights), "score": run.score, "predicted": float(predicted), "loo_error": float(error)}
            for run, predicted, error in zip(learned.runs, model(learned.weights_NK), model.loo_N, strict=True)
        ],
    }  # fmt: skip


def _say_fit(learned: Learned) -> None:
    model = learned.model
    rows = [
        (run.name, *(f"{weight:.3f}" for weight in weights), f"{run.score:.4f}", f"{predicted:.4f}", _number(error))
        for run, weights, predicted, error in zip(
            learned.runs, learned.weights_NK, model(learned.weights_NK), model.loo_N, strict=True
        )
    ]
    right = (*model.names, learned.runs[0].metric, "fitted", "left out")
    say(table(("run", *right), rows, right=right, title="Runs (validation split; left out: error when fitted without the run)"))
    effects = [(name, f"{beta:.4f}") for name, beta in zip(model.names, model.beta_K, strict=True)]
    effects += [
        (f"{model.names[i]} x {model.names[j]}", f"{model.gamma_KK[i, j]:+.4f}")
        for i in range(len(model.names))
        for j in range(i + 1, len(model.names))
    ]
    say(table(("set alone, gain of mixing", "score"), effects, right=("score",)))
    left_out = "unknown" if model.loo_rmse is None else f"{model.loo_rmse:.4f}"
    say(
        f"error: fitted {model.rmse:.4f}, left out {left_out}, of the mean alone {model.loo_rmse_mean:.4f}; condition {model.condition:.3g}"
    )
    for note in learned.notes:
        say(f"note: {note}")


def _number(value: float) -> str:
    return "–" if value != value else f"{value:+.4f}"
