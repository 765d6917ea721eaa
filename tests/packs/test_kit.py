"""The kit is itself tested: a sound third-party pack passes, and each way of breaking it fails exactly the check that is for it."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from factory.errors import ConfigError, PluginError
from factory.testing import CHECKS, SLOW_CHECKS, run_checks

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
    "two_names_of_one_pack": ("manifest_is_complete", [(YAML, "name: broken_two_names_of_one_pack", "name: sums")]),
    "needs_another_contract": ("manifest_is_complete", [(YAML, "title: Sums", "title: Sums\ncontract: 2")]),
    "version_without_changelog": ("manifest_is_complete", [(YAML, "version: 1.0.0", "version: 1.1.0")]),
    "data_without_licence": ("manifest_is_complete", [(YAML, ", license: Apache-2.0}", "}")]),
    "excuse_of_nothing": ("excuses_are_known", [(YAML, "modality:", "conformance: {skip: {no_such_check: because}}\nmodality:")]),
    "readme_without_not_for": ("files_are_present", [("README.md", "## Not for\n", "")]),
    "imports_torch": ("import_is_light", [(PACK, "import random\n", "import random\nimport torch\n")]),
    "looks_up_a_host": ("import_is_light", [(PACK, "import random\n", "import random, socket\ntry:\n    socket.getaddrinfo('localhost', 80)\n"
                                                                      "except OSError:\n    pass\n")]),
    "recipe_with_a_slip": ("recipes_compose", [("recipes/embedded.yaml", "lessons: 8", "lesons: 8")]),
    "weight_below_zero": ("mixture_is_valid", [(YAML, "exact: 1.0", "exact: -1.0")]),
    "weight_of_no_verifier": ("mixture_is_valid", [(YAML, "exact: 1.0", "exakt: 1.0")]),
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
    "worker_disagrees": ("items_survive_transport", verifier(PAYS + "\n        return Verdict(v.score, v.status, v.reason + str(hash('a')))")),
    "test_text_in_train": ("splits_are_disjoint", [(PACK, '{"train": 100, "validation": 4000, "test": 7000}[split]', "7000"),
                                                   (PACK, "{role}-{split}-{seed}-{index}\")\n        low", "{role}-{seed}-{index}\")\n        low")]),
    "trailing_space": ("prompts_are_clean", [(PACK, 'plus {b}?"', 'plus {b}? "')]),
    "unrendered": ("prompts_are_clean", [(PACK, 'plus {b}?"', 'plus {b}? {{{{ hint }}}}"')]),
    "template_slip": ("prompts_are_clean", [("prompts/system.jinja", "{{ name }}", "{{ name }")]),
    "prompt_too_long": ("prompts_are_clean", [(PACK, 'plus {b}?"', 'plus {b}?{\' It is a sum.\' * 1100}"')]),
    "image_is_no_image": ("media_are_sound", [(YAML, "modality: text", "modality: vl"),
                                              (PACK, 'f"What is', 'f"<image> What is'),
                                              (PACK, 'source="arith")', 'source="arith", media=(Media(data=f"no png {role}{split}{seed}{index}".encode()),))'),
                                              (PACK, "split=split)\n\n    def lessons", "split=split, media=sample.media)\n\n    def lessons"),
                                              (PACK, "import Document", "import Media, Document")]),
    "gold_is_wrong": ("gold_earns_everything", [(PACK, "yield Lesson(sample, self.gold(sample))", "yield Lesson(sample, self.gold(sample) + '!')")]),
    "next_answer_pays": ("gold_of_another_earns_little", [
        (PACK, "a, b = rng.randrange(low, low + 999), rng.randrange(1000)", "a, b = low + index, 1"),
        *verifier("from dataclasses import replace\n        up = replace(sample, reference=str(int(sample.reference) + 1))\n"
                  "        if sample.id != 'one' and self.inner(completion, up).score: return self.inner(completion, up)")]),
    "reads_the_reasoning": ("tricks_do_not_pay", verifier(
        VERDICT + "\n        if f'the answer is {sample.reference} ' in completion: return Verdict(1.0, Status.ok, 'said so')")),
    "raises": ("any_text_gets_a_verdict", verifier("assert '\\x00' not in completion")),
    "hangs": ("any_text_gets_a_verdict", verifier(
        "import time\n        until = time.process_time() + 2.1\n"
        "        while len(completion) > 99_000 and completion[0] == '(' and time.process_time() < until: pass")),
    "says_error": ("any_text_gets_a_verdict", verifier(VERDICT + "\n        if completion.isspace(): return Verdict(0.0, Status.error, 'blank')")),
    "remembers": ("verdicts_do_not_remember", verifier(PAYS + "\n        if not completion: return Verdict(0.0, Status.wrong, f'call {self.calls}')")),
    "fixture_drifts": ("fixtures_are_reproduced", [(ROWS, '"reason": "got \'6\'"', '"reason": "got \'7\'"')]),
    "no_exploit_rows": ("fixtures_cover_every_verifier", [(ROWS, '"kind": "exploit"', '"kind": "wrong"')]),
}  # fmt: skip


SAYS = {
    "two_names_of_one_pack": "pack.yaml: name is 'sums', but it is installed as .* Use one name in both",
    "needs_another_contract": r"pack.yaml: needs contract 2, this factory has 1\. .*pip install --upgrade domain-factory",
    "version_without_changelog": "pack.yaml: version 1.1.0 has no entry in changelog. Add what changed",
    "data_without_licence": "pack.yaml: data row 'arith' has no license. State them",
    "excuse_of_nothing": "pack.yaml: conformance.skip names 'no_such_check', .* Remove it",
    "readme_without_not_for": r"README.md: its sections are \[.*want \[.*'Not for'",
    "imports_torch": "importing broken_imports_torch imports torch. Import it inside the function",
    "looks_up_a_host": r"uses the network \(socket.getaddrinfo\). Fetch nothing at import",
    "recipe_with_a_slip": "embedded.yaml:5: unknown key 'stages.sft.lesons'. Did you mean 'lessons'",
    "weight_below_zero": "tasks.sum.verifiers.exact is -1.0; .* Set it to 0",
    "weight_of_no_verifier": "tasks.sum.verifiers.exakt: .* Did you mean 'exact'",
    "verifier_with_two_names": r"verifiers\(\): 'exact' is named 'other' inside. Use one",
    "two_primary_evals": r"evals\(\): 2 primary qa evals; .* Set primary=True on one",
    "eval_of_no_verifier": "eval 'accuracy': there is no verifier 'exakt'. Known: exact",
    "hash_order": "lessons differs in a new process: .* Sort sets",
    "ignores_the_seed": "corpus is the same for seeds 0 and 1. Use the seed",
    "ids_repeat": r"corpus\('train'\) repeats the id corpus-train-0-0. Number them",
    "limit_is_a_wish": r"samples\('train'\) gave 25 items for limit=24. A generator yields exactly the limit",
    "tuples_in_meta": "lessons-train-0-0 differs after JSON. Use lists",
    "worker_disagrees": "verifier 'exact' says .* on samples-train-0-0 here and .* in a worker process. .* sort sets",
    "test_text_in_train": r"samples\('validation'\) \S+ and samples\('test'\) \S+ share the text .* Draw them from separate streams",
    "trailing_space": "lessons-train-0-0: a message begins or ends with white space: .* Strip it",
    "unrendered": "corpus-train-0-0: a template was not rendered: .* Fill in",
    "template_slip": "prompts/system.jinja:1: .* Mend the template",
    "prompt_too_long": "lessons-train-0-0: the prompt has at least 4405 tokens, .* Shorten it",
    "image_is_no_image": "an image of corpus-train-0-0 does not decode: .* Encode it as PNG",
    "gold_is_wrong": r"the gold answer of lessons-train-0-0 earns 0.909091: .*format 0: text outside the blocks",
    "next_answer_pays": "task 'sum': another sample's gold answer earns 0.98 on average. The verifier pays for any answer",
    "reads_the_reasoning": "'answer in the reasoning, another given' earns 1.00 .* Run: factory verify --audit",
    "raises": r"verifier 'exact' raised AssertionError: .*for '\\x00' on samples-train-0-0. Return a Verdict",
    "hangs": r"verifier 'exact' on '\(.* \(100000 characters\): takes .* Use linear-time parsing",
    "says_error": "verifier 'exact' on .*: status error. A bad completion is wrong or unparsable",
    "remembers": r"verifier 'exact' said 0 \(call \d+\), then 0 \(call \d+\) for '' on samples-train-0-0. Keep no state",
    "fixture_drifts": "fixtures/completions.jsonl:2: .* lacks .* Mend the verifier, or the row",
    "no_exploit_rows": "fixtures/completions.jsonl: verifier 'exact' has no exploit row. Add one of each",
}
"""Broken pack -> file, line or row of its fault, and the remedy, as its message gives them."""
GUIDE = (
    "manifest_is_complete", "import_is_light", "recipes_compose", "draws_are_deterministic", "items_survive_transport",
    "splits_are_disjoint", "gold_earns_everything", "gold_of_another_earns_little", "any_text_gets_a_verdict", "verdicts_do_not_remember",
    "tricks_do_not_pay", "fixtures_are_reproduced", "mixture_is_valid", "prompts_are_clean", "media_are_sound", "embedded_recipe_builds",
)  # fmt: skip
"""The sixteen checks of the style guide (5.8), in its order. The kit has five more."""


def test_every_check_has_a_broken_pack_and_every_broken_pack_a_message():
    assert set(GUIDE) <= {**CHECKS, **SLOW_CHECKS}.keys() and len(GUIDE) == 16
    assert {check for check, _ in BROKEN.values()} == set(CHECKS), "the slow check has a test of its own"
    assert set(SAYS) == set(BROKEN)


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
    failed = [result for result in run_checks(f"broken_{name}") if result.is_fault]
    assert [result.check for result in failed] == [check]
    assert re.search(SAYS[name], failed[0].message, re.DOTALL), failed[0].message


def test_what_a_fault_makes_impossible_is_told_once(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "unweighed", BROKEN["weight_below_zero"][1])
    results = {result.check: result for result in run_checks("unweighed")}
    assert results["gold_earns_everything"].outcome == "not run" and not results["gold_earns_everything"].is_fault
    assert results["gold_earns_everything"].message == "needs mixture_is_valid"
    install(tmp_path, monkeypatch, "of_tomorrow", BROKEN["needs_another_contract"][1])
    assert {result.outcome for result in run_checks("of_tomorrow")[1:]} == {"not run"}


FEW = (
    (PACK, "class ArithPack:", "ROWS = {'train': 30, 'validation': 9, 'test': 7}\n\n\nclass ArithPack:"),
    (PACK, "range(request.limit or 100)", "range(min(request.limit or 100, ROWS[split]))"),
)
"""Edits that make the pack a fixed set of rows instead of a generator."""


def test_a_pack_of_a_fixed_set_of_rows_passes(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "of_few_rows", FEW)
    assert faults("of_few_rows") == []


def test_a_generator_that_stops_short_is_caught(tmp_path, monkeypatch):
    edit = (PACK, "range(request.limit or 100)", "range((request.limit or 100) - 1)")
    install(tmp_path, monkeypatch, "stops_short", [edit])
    assert faults("stops_short") == ["limits_are_kept"]


@pytest.mark.slow
def test_a_sound_pack_builds_and_one_that_changes_its_own_files_does_not(tmp_path, monkeypatch):
    (built,) = run_checks(install(tmp_path, monkeypatch, "builds"), only=["embedded_recipe_builds"])
    assert built.outcome == "passed", built.message
    # Verifier workers see a read-only file system, so only the other processes get to write.
    clock = (
        "import contextlib, time\n\nwith contextlib.suppress(OSError):\n"
        "    (Path(__file__).parent / 'seen.txt').write_text(str(time.time_ns()))\nPACK = ArithPack()"
    )
    install(tmp_path, monkeypatch, "writes_a_clock", [(PACK, "PACK = ArithPack()", clock)])
    results = run_checks("writes_a_clock", slow=True)
    assert [result.check for result in results if result.is_fault] == ["embedded_recipe_builds"]
    assert re.search("recipes/embedded.yaml: after a stop the build ran 00-base, .* again, .* no clock", results[-1].message)


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


@pytest.mark.parametrize("name", [*CHECKS, *SLOW_CHECKS])
def test_every_check_explains_itself(name):
    assert {**CHECKS, **SLOW_CHECKS}[name].__doc__
