"""The kit is itself tested: a sound third-party pack passes, and each way of breaking it fails exactly the check that is for it."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from factory.errors import ConfigError, PluginError
from factory.testing import CHECKS, run_checks

SOUND = Path(__file__).parent / "broken" / "arith_pack"


def install(tmp_path, monkeypatch, name, edits=()):
    """Copy the sound pack as an installed distribution called `name`, with (file, old, new) edits. The old text must be there."""
    folder = tmp_path / name
    shutil.copytree(SOUND, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / "pack.yaml", folder / "__init__.py"):
        path.write_text(path.read_text().replace("arith_pack", name))
    for file, old, new in edits:
        path = folder / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new))
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[factory.domain_packs]\n{name} = {name}:PACK\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


PACK, YAML = "__init__.py", "pack.yaml"
CASES = "fixtures/cases.jsonl"
ROWS = "fixtures/completions.jsonl"
VERIFIER = """

class Broken:
    name, version = "exact", "1"

    def __init__(self):
        self.inner, self.calls = ClosedAnswer(name="exact"), 0

    def __call__(self, completion, sample):
        self.calls += 1
        BODY
        return self.inner(completion, sample)


PACK = ArithPack()
"""


def verifier(body):
    """Edits that put `body` in front of the sound verifier's verdict."""
    return (
        (PACK, "\n\nPACK = ArithPack()\n", VERIFIER.replace("BODY", body)),
        (PACK, 'self.exact = ClosedAnswer(name="exact")', "self.exact = Broken()"),
    )


VERDICT = "from factory.contracts import Status, Verdict; "
PAYS = VERDICT + "v = self.inner(completion, sample); "
BROKEN = {
    "version_without_changelog": ("manifest_is_complete", [(YAML, "version: 1.0.0", "version: 1.1.0")]),
    "data_without_licence": ("manifest_is_complete", [(YAML, ", license: Apache-2.0}", "}")]),
    "excuse_of_nothing": ("excuses_are_known", [(YAML, "modality:", "conformance: {skip: {no_such_check: because}}\nmodality:")]),
    "readme_without_not_for": ("files_are_present", [("README.md", "## Not for\n", "")]),
    "imports_torch": ("import_is_light", [(PACK, "import random\n", "import random\nimport torch\n")]),
    "looks_up_a_host": ("import_is_light", [(PACK, "import random\n", "import random, socket\ntry:\n    socket.getaddrinfo('localhost', 80)\n"
                                                                      "except OSError:\n    pass\n")]),
    "recipe_with_a_slip": ("recipes_compose", [("recipes/embedded.yaml", "lessons: 8", "lesons: 8")]),
    "verifier_with_two_names": ("mixture_is_valid", [(PACK, 'ClosedAnswer(name="exact")', 'ClosedAnswer(name="other")')]),
    "two_primary_evals": ("evals_are_valid", [(PACK, 'primary=True)}', 'primary=True), "b": Eval("b", verifier="exact", primary=True)}')]),
    "eval_of_no_verifier": ("evals_are_valid", [(PACK, 'Eval("accuracy", verifier="exact"', 'Eval("accuracy", verifier="exakt"')]),
    "hash_order": ("draws_are_deterministic", [(PACK, "rng = random.Random(f\"", "rng = random.Random(hash('x') if role == 'lessons' else f\"")]),
    "ignores_the_seed": ("draws_are_deterministic", [(PACK, "-{seed}-{index}\")\n        low", "-{index}\")\n        low"),
                                                     (PACK, 'Sample(f"{role}-{split}-{seed}-{index}"', 'Sample(f"{role}-{split}-{index}"')]),
    "ids_repeat": ("limits_are_kept", [(PACK, 'Sample(f"{role}-{split}-{seed}-{index}"', 'Sample(f"{role}-{split}-{seed}-{index // 2}"')]),
    "limit_is_a_wish": ("limits_are_kept", [(PACK, "for index in range(request.limit or 100):\n            yield self._sample",
                                             "for index in range((request.limit or 100) + 1):\n            yield self._sample")]),
    "tuples_in_meta": ("items_survive_transport", [(PACK, 'source="arith")', 'source="arith", meta={"pair": (a, b)})')]),
    "test_text_in_train": ("splits_are_disjoint", [(PACK, '{"train": 100, "validation": 4000, "test": 7000}[split]', "7000"),
                                                   (PACK, "{role}-{split}-{seed}-{index}\")\n        low", "{role}-{seed}-{index}\")\n        low")]),
    "trailing_space": ("prompts_are_clean", [(PACK, 'plus {b}?"', 'plus {b}? "')]),
    "unrendered": ("prompts_are_clean", [(PACK, 'plus {b}?"', 'plus {b}? {{{{ hint }}}}"')]),
    "image_is_no_image": ("media_are_sound", [(YAML, "modality: text", "modality: vl"),
                                              (PACK, 'f"What is', 'f"<image> What is'),
                                              (PACK, 'source="arith")', 'source="arith", media=(Media(data=f"no png {role}{split}{seed}{index}".encode()),))'),
                                              (PACK, "split=split)\n\n    def lessons", "split=split, media=sample.media)\n\n    def lessons"),
                                              (PACK, "import Document", "import Media, Document")]),
    "gold_is_wrong": ("gold_earns_everything", [(PACK, "yield Lesson(sample, self.gold(sample))", "yield Lesson(sample, self.gold(sample) + '!')")]),
    "raises": ("any_text_gets_a_verdict", verifier("assert '\\x00' not in completion")),
    "hangs": ("any_text_gets_a_verdict", verifier(
        "import time\n        until = time.process_time() + 2.1\n"
        "        while len(completion) > 99_000 and completion[0] == '(' and time.process_time() < until: pass")),
    "says_error": ("any_text_gets_a_verdict", verifier(VERDICT + "\n        if completion.isspace(): return Verdict(0.0, Status.error, 'blank')")),
    "remembers": ("verdicts_do_not_remember", verifier(PAYS + "\n        if not completion: return Verdict(0.0, Status.wrong, f'call {self.calls}')")),
    "fixture_drifts": ("fixtures_are_reproduced", [(ROWS, '"reason": "got \'6\'"', '"reason": "got \'7\'"')]),
    "no_exploit_rows": ("fixtures_cover_every_verifier", [(ROWS, '"kind": "exploit"', '"kind": "wrong"')]),
}  # fmt: skip


def faults(name):
    """Names of the checks that fail."""
    return [result.check for result in run_checks(name) if result.is_fault]


def test_a_sound_third_party_pack_passes_every_check(tmp_path, monkeypatch):
    results = run_checks(install(tmp_path, monkeypatch, "sound_pack"))
    assert {result.check: result.message for result in results if result.outcome != "passed"} == {}
    assert len(results) == len(CHECKS)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_pack_fails_exactly_its_check(tmp_path, monkeypatch, name):
    check, edits = BROKEN[name]
    install(tmp_path, monkeypatch, f"broken_{name}", edits)
    assert faults(f"broken_{name}") == [check]


def test_a_verifier_that_always_pays_is_caught(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "always_pays", verifier(VERDICT + "return Verdict(1.0, Status.ok, 'fine')"))
    assert {"gold_of_another_earns_little", "tricks_do_not_pay", "fixtures_are_reproduced"} == set(faults("always_pays"))


def test_substring_scoring_is_caught_as_a_trick(tmp_path, monkeypatch):
    body = (
        VERDICT
        + "return Verdict(float(sample.reference in completion), Status.ok if sample.reference in completion else Status.wrong, 'sub')"
    )
    install(tmp_path, monkeypatch, "substring", verifier(body))
    assert "tricks_do_not_pay" in faults("substring")


def test_an_excused_fault_is_no_fault_and_a_stale_excuse_is(tmp_path, monkeypatch):
    skip = (YAML, "modality:", "conformance: {skip: {files_are_present: written later, prompts_are_clean: old}}\nmodality:")
    install(tmp_path, monkeypatch, "excused", [skip, ("README.md", "## Not for\n", "")])
    results = {result.check: result for result in run_checks("excused")}
    assert results["files_are_present"].outcome == "excused" and not results["files_are_present"].is_fault
    assert results["prompts_are_clean"].outcome == "stale" and results["prompts_are_clean"].is_fault
    assert "Remove the excuse" in results["prompts_are_clean"].message


def test_a_pack_that_cannot_be_imported_is_reported_and_not_raised(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "unimportable", [(PACK, "import random\n", "import random, no_such_module\n")])
    results = {result.check: result for result in run_checks("unimportable")}
    assert results["manifest_is_complete"].outcome == "passed"
    assert "no_such_module" in results["evals_are_valid"].message


def test_only_runs_what_is_asked_and_knows_near_misses(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "asked")
    assert [result.check for result in run_checks("asked", only=["prompts_are_clean"])] == ["prompts_are_clean"]
    with pytest.raises(ConfigError, match=re.escape("Did you mean 'prompts_are_clean'?")):
        run_checks("asked", only=["prompt_are_clean"])
    with pytest.raises(PluginError, match="unknown domain pack 'nobody'"):
        run_checks("nobody")


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_explains_itself(name):
    assert CHECKS[name].__doc__
