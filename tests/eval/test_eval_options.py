"""Options of `factory eval` that do not go together are refused before anything is loaded."""

import pytest

from factory.cli.app import run


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["m"], "which pack should measure"),
        (["m", "--suite", "lm-eval:a", "-d", "biology"], "takes no --domain"),
        (["m", "--suite", "helm:a"], "want lm-eval:TASK"),
        (["m", "-d", "biology", "--limit", "3"], "go with --suite"),
        (["m", "-d", "biology", "--name", "x"], "go with an address"),
        (["http://models.example/v1", "-d", "biology"], "Add --online"),
        (["http://127.0.0.1:9/v1", "-d", "biology", "--deliberate", "majority:4"], "needs the model itself"),
        (["m", "-d", "biology", "-k", "2", "--api-key-env", "K"], "go with an address"),
    ],
)
def test_options_that_contradict_are_refused(words, what, capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTORY_HOME", str(tmp_path))
    assert run(["eval", *words]) == 2
    assert what in capfd.readouterr().err.replace("\n", " ")
