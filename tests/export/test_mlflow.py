"""An exported folder in MLflow's model registry: MLflow's own client finds it with what the record knows."""

import importlib.util

import pytest

from factory.tracking.mlflow_models import tags_of


def test_the_tags_are_the_records_own_words(record):
    tags = tags_of(record())
    assert (
        tags["factory.domain"] == "timeseries"
        and tags["factory.base"] == "qwen3-0.6b"
        and tags["factory.licence"] == "Apache-2.0"
    )
    assert tags["factory.test.accuracy"] == "0.75" and tags["factory.validation.accuracy"] == "0.7"


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="mlflow is installed")
def test_without_mlflow_it_says_how_to_get_it(text_base, registered, factory, tmp_path):
    code, _, err = factory("export", registered(text_base), tmp_path / "out", "--mlflow")
    assert code == 2 and "pip install mlflow" in err and not (tmp_path / "out").exists()


def test_a_folder_without_a_record_is_refused(text_base, factory, tmp_path):
    code, _, err = factory("export", text_base, tmp_path / "out", "--mlflow")
    assert code == 2 and "factory models list" in err and not (tmp_path / "out").exists()


def test_mlflow_finds_the_folder_and_counts_versions(text_base, registered, factory, home, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    name = registered(text_base)
    for number in (1, 2):
        code, out, err = factory("export", name, tmp_path / f"out{number}", "--mlflow")
        assert code == 0 and f"models:/demo/{number}" in out, err
    client = MlflowClient(
        registry_uri=f"sqlite:///{home}/tracking/mlflow.db", tracking_uri=f"sqlite:///{home}/tracking/mlflow.db"
    )
    version = client.get_model_version("demo", "2")
    assert version.source == (tmp_path / "out2").as_uri() and version.tags["factory.test.accuracy"] == "0.75"
    assert (tmp_path / "out2" / "model.safetensors").is_file()
