"""lm-eval-harness in its own environment: our exported folder by its CLI, before and after; and our results in its shape.

The real harness is `lm_eval` on PATH or FACTORY_LM_EVAL (an environment of its own); those tests skip without it.
"""

import json
import subprocess
from pathlib import Path

import pytest
from openai_server import Server, said

from factory.errors import ConfigError, ModelError
from factory.evaluation import harness
from factory.evaluation.endpoint import Endpoint
from factory.evaluation.lm_eval_shape import write_lm_eval

ROW = {"prompt": "1+1?", "completion": "2", "reference": "2", "status": "ok"}


def rows():
    return [
        {"id": "a", "task": "sum", "score": 1.0, **ROW}, {"id": "b", "task": "sum", "score": 0.0, **ROW, "status": "wrong"},
        {"id": "c", "task": "word", "score": 1.0, **ROW}, {"id": "d", "task": "word", "score": 0.0, **ROW, "status": "error"},
    ]  # fmt: skip


def written(folder):
    return write_lm_eval(
        folder,
        "toy",
        "exact",
        rows(),
        model="m",
        settings={"temperature": 0.0},
        extra={"pack_version": "1.0"},
        date="2026-01-01T00-00-00",
    )


def test_results_have_the_harness_keys_and_hand_made_figures(tmp_path):
    path, *samples = written(tmp_path)
    found = json.loads(path.read_text())
    wanted = {"results", "groups", "configs", "versions", "n-shot", "higher_is_better", "n-samples", "config", "git_hash", "date", "task_hashes",
              "chat_template_sha", "system_instruction_sha", "lm_eval_version", "factory"}  # fmt: skip
    assert wanted <= set(found)
    # 1, 0, 1 counted (the failed verification is in neither sum): mean 2/3; sd = sqrt(1/3), error = sqrt(1/3)/sqrt(3) = 1/3
    assert found["results"]["factory_toy"]["exact,none"] == pytest.approx(2 / 3)
    assert found["results"]["factory_toy"]["exact_stderr,none"] == pytest.approx(1 / 3)
    assert found["n-samples"]["factory_toy_word"] == {"original": 2, "effective": 1}
    assert found["results"]["factory_toy_word"]["exact_stderr,none"] == "N/A"
    assert [path.name for path in samples] == [
        "samples_factory_toy_sum_2026-01-01T00-00-00.jsonl",
        "samples_factory_toy_word_2026-01-01T00-00-00.jsonl",
    ]
    assert harness.figures(found)["factory_toy_sum"] == {"exact": 0.5}
    assert harness.scores_of(tmp_path, "factory_toy_sum") == {"exact": {"0": 1.0, "1": 0.0}}


def test_a_suite_is_read_and_a_missing_harness_told(tmp_path):
    assert harness.read_suite("lm-eval:a,b") == ("a", "b")
    for wrong in ("arc", "lm-eval:", "helm:x"):
        with pytest.raises(ConfigError, match="want lm-eval:TASK"):
            harness.read_suite(wrong)
    with pytest.raises(ConfigError, match=r"Install lm-eval-harness.*FACTORY_LM_EVAL=lm/bin/lm_eval"):
        harness.find_program({"PATH": str(tmp_path)})
    with pytest.raises(ConfigError, match="is no file"):
        harness.find_program({harness.PROGRAM: str(tmp_path / "none")})


def test_the_key_is_never_on_the_command_line():
    words = harness.arguments(
        Endpoint("http://127.0.0.1/v1", "m", "sk-secret"), harness.Suite(("a",), limit=3, num_fewshot=2), Path("out")
    )
    assert (
        "sk-secret" not in " ".join(words) and "model=m,base_url=http://127.0.0.1/v1/chat/completions,num_concurrent=1" in words
    )
    assert words[-4:] == ["--limit", "3", "--num_fewshot", "2"]


def test_a_model_that_sees_is_loaded_by_the_harness_multimodal_class(tmp_path):
    for folder, config, kind in (("eyes", {"vision_config": {}}, "hf-multimodal"), ("words", {}, "hf")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
        words = harness.arguments(tmp_path / folder, harness.Suite(("a",)), Path("out"))
        assert words[words.index("--model") + 1] == kind


TASKS = {
    "tiny_choice.yaml": "task: tiny_choice\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{choices}}'\ndoc_to_target: '{{gold}}'\nmetric_list: [{metric: acc}, {metric: acc_norm}]\n",
    "tiny_words.yaml": "task: tiny_words\noutput_type: generate_until\ndoc_to_text: '{{q}}'\ndoc_to_target: '{{choices[gold]}}'\ngeneration_kwargs: {until: [\"\\n\"], max_gen_toks: 4}\nmetric_list: [{metric: exact_match}]\n",
}  # fmt: skip


@pytest.fixture
def tasks(tmp_path):
    """Two tasks with data on disk."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    docs = [{"q": f"the cat sat on {i}", "choices": ["the mat", "a dog"], "gold": i % 2} for i in range(6)]
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    where = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'docs.jsonl'}}}}}\ntest_split: test\nnum_fewshot: 0\n"
    for name, text in TASKS.items():
        (folder / name).write_text(text + where)
    return folder


@pytest.fixture
def program():
    try:
        return harness.find_program()
    except ConfigError as err:
        pytest.skip(f"lm-eval-harness is not here: {err}")


@pytest.mark.slow
def test_the_harness_measures_exported_folders_before_and_after(program, tasks, text_base, tmp_path, monkeypatch, capfd):
    """`factory eval` on two models; the second is the first with its output layer turned round, so its choices differ."""
    import torch

    from factory.cli.app import run
    from factory.stages.models.load import load
    from factory.stages.models.store import save

    monkeypatch.setenv("FACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    other = load(text_base, precision="fp32")
    with torch.no_grad():
        for name, value in other.model.named_parameters():
            if "norm" not in name:
                value.neg_()
    save(other, tmp_path / "other")
    assert run(["export", str(tmp_path / "other"), str(tmp_path / "exported")]) == 0
    capfd.readouterr()
    words = [
        "eval",
        str(tmp_path / "exported"),
        "--suite",
        "lm-eval:tiny_choice,tiny_words",
        "--include",
        str(tasks),
        "--against",
        str(text_base),
        "--json",
    ]
    assert run(words) == 0, capfd.readouterr().err
    found = json.loads(capfd.readouterr().out)
    assert set(found["tasks"]) == {"tiny_choice", "tiny_words"} and 0.0 <= found["tasks"]["tiny_choice"]["acc"] <= 1.0
    rows = {(row["task"], row["metric"]): row for row in found["compared"]}
    row = rows["tiny_choice", "acc"]
    assert (
        row["n"] == 6
        and row["diff"] == pytest.approx(row["after"] - row["before"])
        and row["diff_ci"][0] <= row["diff"] <= row["diff_ci"][1]
    )
    assert run(["eval", str(text_base), "--suite", "lm-eval:no_such_task"]) == ModelError.exit_code
    assert "no_such_task" in capfd.readouterr().err


@pytest.mark.slow
def test_the_harness_draws_its_own_table_from_our_results(program, tmp_path):
    path, *_ = written(tmp_path)
    code = "import json, sys; from lm_eval.utils import make_table; print(make_table(json.load(open(sys.argv[1]))))"
    done = subprocess.run(
        [str(program.parent / "python"), "-c", code, str(path)], capture_output=True, text=True, env={"PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    assert "factory_toy_sum" in done.stdout and "0.5" in done.stdout


@pytest.mark.slow
def test_the_harness_measures_an_address(program, tasks, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    server = Server(lambda body, number: said("the mat"))
    try:
        found = harness.run_harness(
            Endpoint(server.base, "m1", "sk-secret"), harness.Suite(("tiny_words",), tasks), tmp_path / "out"
        )
    except ModelError as err:
        if "lm-eval[api]" in str(err):
            pytest.skip("the harness's environment lacks lm-eval[api], which addresses need")
        raise
    finally:
        server.close()
    assert harness.figures(found)["tiny_words"] == {"exact_match": 0.5}
    assert len(server.requests) == 6 and set(server.keys) == {"Bearer sk-secret"}
    assert "sk-secret" not in (tmp_path / "out" / "log.txt").read_text()
