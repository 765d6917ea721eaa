"""`factory verify`: rows in, verdicts out, bad rows named, and an audit that ends with 1 when a wrong answer pays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "config" / "toy_dist"
SOUND = ROOT / "tests" / "packs" / "broken" / "arith_pack"
LENIENT = """

class Careless:
    name, version = "exact", "1"

    def __call__(self, completion, sample):
        from factory.contracts import Status, Verdict
        is_right = sample.reference in completion
        return Verdict(float(is_right), Status.ok if is_right else Status.wrong, f"got {completion[:20]!r}, want {sample.reference!r}")


PACK = ArithPack()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a copy of the sound third-party pack under a name, with edits of its module."""

    def put(name, *edits):
        home = tmp_path / "packs"
        shutil.copytree(SOUND, home / name, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pack.yaml", "__init__.py"):
            path = home / name / file
            text = path.read_text().replace("arith_pack", name)
            for old, new in edits if file == "__init__.py" else ():
                assert old in text
                text = text.replace(old, new)
            path.write_text(text)
        info = home / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[factory.domain_packs]\n{name} = {name}:PACK\n")
        monkeypatch.syspath_prepend(str(home))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(TOY), str(home)]))
        return name

    return put


def write(path: Path, *rows) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def sample(number, task="add"):
    return {
        "id": f"own-{number}",
        "task": task,
        "messages": [{"role": "user", "content": f"{number}+1?"}],
        "reference": number + 1,
    }


def test_rows_are_scored_and_joined_with_the_packs_samples(factory, tmp_path):
    known = factory("data", "preview", "-d", "toy", "-n", "2", "--json").json
    rows = write(
        tmp_path / "done.jsonl",
        {"id": known[0]["id"], "completion": str(known[0]["reference"])},
        {"id": known[1]["id"], "completion": "no"},
        {"sample": sample(4), "completion": [{"role": "user", "content": "4+1?"}, {"role": "assistant", "content": "5"}]},
        {"sample": json.dumps(sample(6)), "completion": "6"},
    )
    out = tmp_path / "verdicts.jsonl"
    ended = factory("verify", rows, "-d", "toy", "--json", "--out", str(out))
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["rows"], found["masked"], found["reward"]) == (4, 0, 0.5)
    assert found["verifiers"]["exact"]["statuses"] == {"ok": 2, "wrong": 2, "unparsable": 0, "error": 0, "timeout": 0}
    assert {row["reason"] for row in found["reasons"]} == {f"want {known[1]['reference']}", "want 7"}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["reward"] for line in lines] == [1.0, 0.0, 1.0, 0.0]
    assert lines[2]["id"] == "own-4" and lines[2]["row"] == "done.jsonl:3" and lines[2]["verdicts"]["exact"]["status"] == "ok"
    assert not list(tmp_path.glob("*.part"))


def test_bad_rows_are_named_by_file_row_field_and_reason_and_the_others_scored(factory, tmp_path):
    rows = write(
        tmp_path / "done.jsonl",
        {"sample": sample(1), "completion": "2"}, {"id": "nobody", "completion": "x"}, {"completion": "x"}, {"sample": sample(1)}, "not json",
        {"sample": sample(1, task="ad"), "completion": "x"}, {"sample": {"id": "a", "task": "add"}, "completion": "x"},
        {"sample": [1], "completion": "x"}, {"sample": sample(1), "completion": 5},
    )  # fmt: skip
    ended = factory("verify", rows, "-d", "toy", "--search", "3", "--json")
    assert ended.code == 3
    assert ended.json["rows"] == 1 and ended.json["reward"] == 1.0
    told = [(row["file"], row["row"], row["field"]) for row in ended.json["bad_rows"]]
    assert told == [("done.jsonl", n, field) for n, field in
                    [(2, "id"), (3, "id"), (4, "completion"), (5, "json"), (6, "sample.task"), (7, "sample.messages"), (8, "sample"),
                     (9, "completion")]]  # fmt: skip
    assert "Did you mean 'add'?" in ended.json["bad_rows"][4]["reason"]
    shown = factory("verify", rows, "-d", "toy", "--search", "3")
    assert shown.code == 3 and "there is no sample 'nobody'" in shown.out and "8 bad rows" in shown.out


def test_explain_shows_one_row_whole(factory, tmp_path):
    rows = write(tmp_path / "done.jsonl", {"sample": sample(1), "completion": "2"}, {"sample": sample(4), "completion": "seven"})
    shown = factory("verify", rows, "-d", "toy", "--explain", "own-4")
    assert shown.code == 0
    for wanted in ("done.jsonl:2", "4+1?", "completion 'seven'", "want 5", "reward = (1 x 0.0000) / 1 = 0.0000"):
        assert wanted in shown.out, wanted
    explained = factory("verify", rows, "-d", "toy", "--explain", "done.jsonl:1", "--json").json["explained"]
    assert [row["id"] for row in explained] == ["own-1"] and explained[0]["completion"] == "2"
    missing = factory("verify", rows, "-d", "toy", "--explain", "own-9")
    assert missing.code == 3 and "no scored row has this id" in missing.err


def test_stdin_and_parquet(factory, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"sample": [json.dumps(sample(2))], "completion": ["3"]}), tmp_path / "done.parquet")
    assert factory("verify", str(tmp_path / "done.parquet"), "-d", "toy", "--json").json["reward"] == 1.0
    text = json.dumps({"sample": sample(2), "completion": "3"}) + "\nbroken\n"
    done = subprocess.run(
        [sys.executable, "-m", "factory.cli.app", "verify", "-d", "toy", "--json"],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 1 and found["bad_rows"][0]["file"] == "<stdin>" and found["bad_rows"][0]["row"] == 2


def test_single_verifiers_and_user_data(factory, tmp_path):
    sums = tmp_path / "sums.txt"
    sums.write_text("40+2\n1+1\n")
    rows = write(tmp_path / "done.jsonl", {"id": f"{sums}-1", "completion": "42"})
    found = factory("verify", rows, "-d", "toy", "--data", str(sums), "--verifier", "exact", "--json")
    assert found.code == 0 and found.json["verifiers"]["exact"]["mean"] == 1.0
    wrong = factory("verify", rows, "-d", "toy", "--verifier", "exat")
    assert wrong.code == 2 and "Did you mean 'exact'?" in wrong.err


def test_what_cannot_be_done_says_so(factory, tmp_path):
    rows = write(tmp_path / "done.jsonl", {"sample": sample(1), "completion": "2"})
    assert factory("verify", rows).code == 2
    assert factory("verify", str(tmp_path / "none.jsonl"), "-d", "toy").code == 3
    assert factory("verify", rows, "-d", "toy", "--audit").code == 2
    assert factory("verify", rows, "-d", "no-such-pack").code == 4
    unwritable = factory("verify", rows, "-d", "toy", "--out", str(tmp_path / "no" / "x.jsonl"))
    assert unwritable.code == 2 and "cannot be written" in unwritable.err


def test_a_verifier_that_keeps_failing_stops_with_6(factory, install, tmp_path):
    broken = LENIENT.replace("is_right = sample.reference in completion", "raise RuntimeError('broken')")
    name = install(
        "failing_pack",
        ("\n\nPACK = ArithPack()\n", broken),
        ('self.exact = ClosedAnswer(name="exact")', "self.exact = Careless()"),
    )
    row = {**sample(1), "task": "sum", "reference": "2"}
    rows = write(tmp_path / "done.jsonl", *({"sample": {**row, "id": f"n{i}"}, "completion": "2"} for i in range(60)))
    ended = factory("verify", rows, "-d", name)
    assert ended.code == 6 and "failed on" in ended.err and "broken" in ended.err
    few = write(tmp_path / "few.jsonl", {"sample": row, "completion": "2"})
    ended = factory("verify", few, "-d", name, "--json")
    assert ended.code == 0 and ended.json["masked"] == 1 and ended.json["reward"] is None


def test_the_audit_passes_a_sound_pack(factory, install):
    ended = factory("verify", "--audit", "-d", install("sound_pack"), "--json")
    assert ended.code == 0, ended.out + ended.err
    assert ended.json["exploits"] == [] and ended.json["attempts"] > 100 and ended.json["best"]["sum"] < 0.5
    assert all(not row["fault"] for row in ended.json["fixtures"])


def test_the_audit_shows_sample_mutation_and_score_of_each_exploit_and_ends_with_1(factory, install):
    name = install(
        "careless_pack",
        ("\n\nPACK = ArithPack()\n", LENIENT),
        ('self.exact = ClosedAnswer(name="exact")', "self.exact = Careless()"),
    )
    ended = factory("verify", "--audit", "-d", name, "--json")
    assert ended.code == 1
    found = {row["mutation"]: row for row in ended.json["exploits"]}
    assert "answer in the reasoning only" in found and found["answer in the reasoning only"]["score"] >= 0.5
    assert found["answer in the reasoning only"]["sample"].startswith(("lessons-", "samples-", "case"))
    assert any(row["fault"] for row in ended.json["fixtures"])
    shown = factory("verify", "--audit", "-d", name)
    assert shown.code == 1 and "Exploits" in shown.out and "answer in the reasoning only" in shown.out


def test_an_audit_of_a_pack_without_fixtures_says_what_is_missing(factory):
    ended = factory("verify", "--audit", "-d", "toy")
    assert ended.code == 4 and "cases.jsonl: is missing" in ended.err
