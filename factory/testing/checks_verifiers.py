"""Checks of a pack's rewards: the right answer is paid, nothing else is, and no text breaks a verifier."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from factory.contracts import Sample, Verdict
from factory.testing.audit import by_task, check_fixtures, judge_here, search
from factory.testing.subject import Subject, ensure, verdict_of

TOLERANCE = 1e-6
CALL_BUDGET_S = 2.0
"""CPU seconds for one call of one verifier on 100,000 characters."""
KINDS = ("right", "wrong", "unparsable", "exploit")


def gold_earns_everything(subject: Subject) -> None:
    """The gold answer of every fixture case, drawn sample and lesson earns a reward of 1."""
    golds = subject.golds()
    ensure(bool(golds), "there is no gold answer to check. Provide lessons, or a method gold(sample) -> completion on the pack.")
    for sample, completion in golds:
        reward = subject.judge(completion, sample)
        told = "; ".join(f"{name} {reward.parts.get(name, 0):g}: {reason}" for name, reason in reward.reasons.items())
        ensure(
            reward.value >= 1 - TOLERANCE, f"the gold answer of {sample.id} earns {reward.value:g}: {completion[:80]!r} ({told})."
        )


def gold_of_another_earns_little(subject: Subject) -> None:
    """The gold answer of another sample of the same task, with another reference, earns under 0.5 on average."""
    for task, rows in by_task(subject.golds()).items():
        values = [
            subject.judge(other, sample).value
            for (sample, _), (stranger, other) in zip(rows, rows[1:] + rows[:1], strict=True)
            if stranger.reference != sample.reference
        ]
        mean = sum(values) / len(values) if values else 0.0
        ensure(
            mean < 0.5,
            f"task '{task}': another sample's gold answer earns {mean:.2f} on average. The verifier pays for any answer.",
        )


def any_text_gets_a_verdict(subject: Subject) -> None:
    """Any text (empty, long, broken tags, other scripts, NUL) gets a prompt verdict with a reason; never an exception."""
    for rows in by_task(subject.golds()).values():
        sample, gold = rows[0]
        for name, verifier in _of_task(subject, sample):
            for text in hostile_texts(gold):
                began = time.process_time()
                verdict = verdict_of(verifier, text, sample)
                spent = time.process_time() - began
                place = f"verifier '{name}' on {text[:40]!r} ({len(text)} characters)"
                ensure(bool(verdict.reason.strip()), f"{place}: gives no reason. Say what was got and what was wanted.")
                ensure(
                    not verdict.status.is_masked,
                    f"{place}: status {verdict.status.value}. A bad completion is wrong or unparsable.",
                )
                ensure(spent < CALL_BUDGET_S, f"{place}: takes {spent:.1f} s of CPU. Use linear-time parsing.")


def verdicts_do_not_remember(subject: Subject) -> None:
    """A verdict does not change when calls are repeated, reordered or mixed with other calls."""
    rows = subject.golds()[:32]
    texts = [gold for _, gold in rows]
    calls = [(verifier, text, sample) for (sample, gold), alien in zip(rows, texts[::-1], strict=True)
             for _, verifier in _of_task(subject, sample) for text in (gold, alien, "")]  # fmt: skip
    first = [verdict_of(*call) for call in calls]
    order = list(range(len(calls)))
    random.Random(0).shuffle(order)
    again = {index: verdict_of(*calls[index]) for index in order}
    for index, verdict in enumerate(first):
        verifier, text, sample = calls[index]
        ensure(
            _same(verdict, again[index]),
            f"verifier '{verifier.name}' said {verdict.score:g} ({verdict.reason}), then {again[index].score:g} ({again[index].reason}) "
            f"for {text[:40]!r} on {sample.id}. Keep no state.",
        )


def tricks_do_not_pay(subject: Subject) -> None:
    """No wrong completion of the audit (`factory verify --audit`) earns its gate: stuffing, many answers, copies, look-alikes ..."""
    report = search(subject.golds(), judge_here(subject), rounds=1, per_task=4)
    found = [exploit for exploit in report.exploits if exploit.score is not None]  # failures have a check of their own
    shown = "; ".join(exploit.told for exploit in found[:3])
    ensure(not found, f"{len(found)} tricks pay. {shown}. Run: factory verify --audit --domain {subject}")


def fixtures_are_reproduced(subject: Subject) -> None:
    """fixtures/completions.jsonl is reproduced: score to 1e-6, status, and a part of the reason."""
    verifiers = subject.pack.verifiers()
    rows = check_fixtures(subject, lambda calls: [verdict_of(verifiers[name], text, sample) for text, sample, name in calls])
    for row in rows:
        ensure(not row["fault"], f"{row['place']}: {row['fault']} Mend the verifier, or the row if the new verdict is right.")


def fixtures_cover_every_verifier(subject: Subject) -> None:
    """Each verifier has right, wrong, unparsable and exploit rows; right rows score 1, the others less, and each says why it exists."""
    rows = subject.completions()
    for row in rows:
        ensure(row.kind in KINDS, f"{row.place}: kind is {row.kind!r}; want one of {', '.join(KINDS)}.")
        ensure((row.score >= 1 - TOLERANCE) == (row.kind == "right"), f"{row.place}: a {row.kind} row with score {row.score:g}.")
        ensure(bool(row.why.strip()) and bool(row.reason.strip()), f"{row.place}: needs a `why` and a part of the reason.")
    for name in subject.pack.verifiers():
        missing = [kind for kind in KINDS if not any(row.verifier == name and row.kind == kind for row in rows)]
        ensure(not missing, f"fixtures/completions.jsonl: verifier '{name}' has no {', '.join(missing)} row. Add one of each.")


def hostile_texts(gold: str) -> Iterator[str]:
    """Texts that break careless parsers, and damaged copies of a gold answer."""
    yield from (
        "",
        " \n\t",
        "\x00",
        "\ud800",
        "nan",
        "-inf",
        "1e999",
        "[nan, inf, 1, 2]",
        "null",
        "True",
        "{}",
        "[]",
        "ответ: Б",
        "答案是B",
        "🙂" * 50,
    )
    yield from (
        "<think>",
        "</think>",
        "<answer>",
        "</answer><answer>",
        "<answer></think></answer><think>",
        "<think></think><answer>\n</answer>",
    )
    for piece in (
        "a",
        "<think>",
        "<answer>",
        "</answer>",
        "(",
        "{",
        "[",
        '{"a":',
        "\\boxed{",
        "9",
        " ",
        "\n",
        "A. ",
        "answer is ",
    ):
        yield piece * (100_000 // len(piece))
    rng = random.Random(gold)
    for _ in range(12):
        start, stop = sorted(rng.sample(range(len(gold) + 1), 2)) if gold else (0, 0)
        yield rng.choice(
            (gold[:start] + gold[stop:], gold[:stop] + gold[start:], gold[::-1], gold[:start] + "\u202e" + gold[start:])
        )


def _of_task(subject: Subject, sample: Sample):
    verifiers = subject.pack.verifiers()
    return [(name, verifiers[name]) for name in subject.mixture.verifiers_for(sample.task)]


def _same(a: Verdict, b: Verdict) -> bool:
    return (a.score, a.status, a.reason, dict(a.parts)) == (b.score, b.status, b.reason, dict(b.parts))


CHECKS = (
    gold_earns_everything, gold_of_another_earns_little, any_text_gets_a_verdict, verdicts_do_not_remember, tricks_do_not_pay,
    fixtures_are_reproduced, fixtures_cover_every_verifier,
)  # fmt: skip
