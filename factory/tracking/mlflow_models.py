"""An exported folder as a version in MLflow's model registry. Only `factory export MODEL OUT --mlflow` leads here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from factory.errors import ModelError
from factory.registry.records import ModelRecord
from factory.tracking.targets import mlflow_address, mlflow_key

TAG_CHARS = 5000
"""MLflow refuses a longer tag."""


def enter_mlflow(folder: Path, record: ModelRecord, home: Path, *, online: bool) -> str:
    """Enter the folder under the model's name; the version's address, such as `models:/pathology-embedded/1`.

    MLflow keeps the folder's path, not its files. What the record knows of the model goes along as tags.

    Args:
        home: FACTORY_HOME, whose tracking/mlflow.db is taken without MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: MLflow's address is another machine and the network is off.
        ModelError: MLflow refuses.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address = mlflow_address(home, online)
    client = MlflowClient(tracking_uri=address, registry_uri=address)
    try:
        if not client.search_registered_models(f"name = '{record.name}'"):
            client.create_registered_model(record.name, tags={"factory.domain": record.domain})
        version = client.create_model_version(record.name, source=folder.absolute().as_uri(), tags=tags_of(record))
    except MlflowException as err:
        raise ModelError(
            f"{record.name}: MLflow refused the model: {err}. The folder {folder} is complete; check MLFLOW_TRACKING_URI, then export again."
        ) from err
    return f"models:/{record.name}/{version.version}"


def tags_of(record: ModelRecord) -> dict[str, str]:
    """Where the model came from and what was measured, as text."""
    measured = record.evals.get(record.stage, {})
    values: Mapping[str, object] = {
        "id": record.id, "domain": record.domain, "stage": record.stage, "run": record.run, "base": record.base.get("ref"), "seed": record.seed,
        "licence": record.licence, **{f"{split}.{figure['name']}": figure["value"] for split, figure in measured.items() if figure},
    }  # fmt: skip
    return {f"factory.{mlflow_key(key)}": str(value)[:TAG_CHARS] for key, value in values.items()}
