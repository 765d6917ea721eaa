"""The trackers: W&B, MLflow, trackio. Their packages are imported when one is opened; each stays on this machine unless `online`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from factory.config.provenance import flat
from factory.errors import ConfigError
from factory.evaluation.endpoint import is_loopback
from factory.tracking.trackers import PROJECT, About

MLFLOW_PARAM_CHARS = 6000
"""MLflow refuses a longer parameter."""


class Wandb:
    """Offline files in the run's `tracking/wandb`, which `wandb sync` sends later; with `online`, W&B itself."""

    def __init__(self, about: About) -> None:
        import wandb

        folder = about.folder / "tracking"
        folder.mkdir(parents=True, exist_ok=True)
        # Explicit: an exported WANDB_MODE=online must not open the network, and git remotes and consoles are nobody's business.
        settings = wandb.Settings(console="off", disable_git=True, save_code=False, x_disable_stats=True, silent=True)
        self._run = wandb.init(
            project=PROJECT, id=about.run, name=about.run, dir=str(folder), config=dict(about.config), tags=sorted(about.tags.values()),
            mode="online" if about.online else "offline", resume="allow" if about.online else None, settings=settings,
        )  # fmt: skip
        self._stages: set[str] = set()

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Each stage has an axis of its own, because each counts its steps from 1."""
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        self._run.log({f"{stage}/step": step} | {f"{stage}/{key}": value for key, value in values.items()})

    def summary(self, values: Mapping[str, float]) -> None:
        """Into the run's summary."""
        self._run.summary.update(dict(values))

    def close(self, status: str) -> None:
        """Flush."""
        self._run.finish(exit_code=0 if status == "finished" else 1)


class Mlflow:
    """A SQLite database under FACTORY_HOME/tracking, or the server that MLFLOW_TRACKING_URI names (another machine needs `online`)."""

    def __init__(self, about: About) -> None:
        address = mlflow_address(about.home, about.online)
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=address)
        # Artefacts, if a user logs any, go beside the database and not into the folder the command was called from.
        place = None if address.startswith("http") else (about.home / "tracking" / "mlflow-artifacts").as_uri()
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = found.experiment_id if found else self._client.create_experiment(PROJECT, artifact_location=place)
        self._id = self._started(experiment, about)

    def _started(self, experiment: str, about: About) -> str:
        """The run of that name, which a resumed build goes on with, or a new one with its settings."""
        name = about.run.replace("'", "")
        old = self._client.search_runs([experiment], f"tags.`factory.run` = '{name}'", max_results=1)
        if old:
            self._client.update_run(old[0].info.run_id, status="RUNNING")
            return str(old[0].info.run_id)
        run_id = str(self._client.create_run(experiment, run_name=name, tags={**about.tags, "factory.run": name}).info.run_id)
        for key, value in flat(about.config).items():
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            self._client.log_param(run_id, mlflow_key(key), text[:MLFLOW_PARAM_CHARS])
        return run_id

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """One batch."""
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(mlflow_key(f"{stage}/{key}"), value, now, step) for key, value in values.items()]
        )

    def summary(self, values: Mapping[str, float]) -> None:
        """As metrics of step 0."""
        for key, value in values.items():
            self._client.log_metric(self._id, mlflow_key(key), value)

    def close(self, status: str) -> None:
        """Set the run's status."""
        self._client.set_terminated(self._id, {"finished": "FINISHED", "interrupted": "KILLED"}.get(status, "FAILED"))


def mlflow_address(home: Path, online: bool) -> str:
    """Where MLflow keeps its records; its telemetry is switched off. Raises ConfigError for another machine while the network is off."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{_made(home / 'tracking')}/mlflow.db"
    _allow("MLFLOW_TRACKING_URI", address, online)
    return address


def mlflow_key(key: str) -> str:
    """MLflow takes letters, digits, `_-. /:`."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in key)


class Trackio:
    """A local folder under FACTORY_HOME/tracking; with `online`, the Space that TRACKIO_SPACE_ID names."""

    def __init__(self, about: About) -> None:
        os.environ["TRACKIO_DIR"] = str(_made(about.home / "tracking" / "trackio"))
        space = os.environ.get("TRACKIO_SPACE_ID") or None
        if space and not about.online:
            raise ConfigError(
                f"TRACKIO_SPACE_ID={space} sends metrics to a Space and the network is off. Unset it, or add --online."
            )
        os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import trackio

        self._run = trackio.init(
            project=PROJECT, name=about.run, config=dict(about.config), space_id=space, resume="allow", embed=False
        )

    def log(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """With the stage's step among the values: trackio has one axis."""
        self._run.log({f"{stage}/step": step} | {f"{stage}/{key}": value for key, value in values.items()})

    def summary(self, values: Mapping[str, float]) -> None:
        """As a last row."""
        if values:
            self._run.log(dict(values))

    def close(self, status: str) -> None:
        """Flush."""
        self._run.finish()


def _allow(what: str, address: str, online: bool) -> None:
    parts = urlsplit(address)
    is_far = parts.scheme in ("http", "https", "postgresql", "mysql", "mssql", "databricks") and not is_loopback(
        parts.hostname or ""
    )
    if (is_far or address == "databricks") and not online:
        raise ConfigError(
            f"{what} is another machine ({parts.scheme}://{parts.hostname}) and the network is off. Unset it, or add --online."
        )


def _made(folder: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
