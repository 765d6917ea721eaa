"""Record specialists' opinions on one's own questions, for the attending physician of MMedAgent-RL (arXiv 2506.00555).

    python -m factory.domains.medicine.ask_specialists --data MY_DATA --url http://localhost:8000/v1 --model NAME --out opinions.jsonl

Each question goes to the department that the triage agent named (`--triage`, the samples.jsonl of its eval), else to the
department of the image's modality. The specialist is any OpenAI-compatible server; it answers `--opinions` times at temperature
1. The rows written are samples of the task `attending`, with the opinions in the question and the tier that their accuracy gives;
`--data opinions.jsonl` reads them. A run that was broken off goes on where it ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from factory.contracts import IMAGE, DataRequest, Message, Sample
from factory.data.images import data_address
from factory.domains.medicine.departments import DEPARTMENTS
from factory.domains.medicine.opinions import tier_of, with_opinions
from factory.domains.medicine.pack import PACK
from factory.errors import ConfigError, DataError, FactoryError
from factory.packs.generated import system_prompt
from factory.rewards.answers import read_choice_anywhere
from factory.rewards.formats import parse
from factory.rewards.judges.settings import is_local

BY_MODALITY = {
    "histology": "pathologist", "microscopy": "pathologist", "fundus": "ophthalmologist", "oct": "ophthalmologist",
    "dermoscopy": "dermatologist", "endoscopy": "surgeon",
}  # fmt: skip
"""Modality words in a question's meta -> department; anything else is the radiologist's."""
MAX_CHARS = 200
"""Longest opinion that is kept."""

Ask = Callable[[str, Sample], str]
"""(department, question) -> one opinion."""


def department_for(sample: Sample, triage: Mapping[str, str]) -> str:
    """Where a question goes: the triage agent's word, else the modality's department."""
    if sample.id in triage:
        return triage[sample.id]
    about = " ".join(str(sample.meta.get(key, "")) for key in ("modality", "modality_type", "image_organ")).lower()
    return next((department for word, department in BY_MODALITY.items() if word in about), "radiologist")


def read_triage(path: Path) -> dict[str, str]:
    """Sample id -> department, out of the completions in an eval's samples.jsonl. Answers that name no department are left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = (parse(str(row.get("completion", "")), lenient=True).answer or "").strip(" .").lower()
        if answer in DEPARTMENTS:
            found[str(row["id"])] = answer
    return found


def attending_sample(sample: Sample, department: str, opinions: Sequence[str]) -> Sample:
    """The question with its opinions, as a sample of the task `attending`."""
    *before, last = sample.messages
    shown = with_opinions(last.content, department, opinions, "full")
    right = [is_right(opinion, sample) for opinion in opinions]
    accuracy = sum(right) / len(right)
    meta = {
        **sample.meta,
        "opinions": list(opinions),
        "department": department,
        "specialist_accuracy": accuracy,
        "tier": tier_of(accuracy),
    }
    reference = sample.meta.get("answer_text", sample.reference)
    options = meta.pop("options", None)
    if options:
        meta["listed"] = dict(options)
        reference = [str(sample.reference), str(reference)]
    messages = (*before, Message(last.role, shown))
    return replace(sample, id=f"attending:{sample.id}", task="attending", messages=messages, reference=reference, meta=meta)


def is_right(opinion: str, sample: Sample) -> bool:
    """Whether one opinion answers the question, by the option's letter or by the pack's closed answers."""
    options = sample.meta.get("options")
    if options:
        return read_choice_anywhere(opinion, dict(options)).letter == sample.reference
    return PACK.verifiers()["closed"](f"<think>-</think><answer>{opinion}</answer>", replace(sample, meta={})).score == 1.0


def record(samples: Iterable[Sample], ask: Ask, out: Path, *, num: int, triage: Mapping[str, str]) -> int:
    """Ask about every sample that `out` does not hold yet, and append a row for each; returns how many were asked."""
    done = {json.loads(line)["id"] for line in out.read_text(encoding="utf-8").splitlines()} if out.exists() else set()
    asked = 0
    with out.open("a", encoding="utf-8", buffering=1) as handle:
        for sample in samples:
            if f"attending:{sample.id}" in done or sample.task not in ("closed", "judgement", "choice"):
                continue
            department = department_for(sample, triage)
            opinions = [" ".join(ask(department, sample).split())[:MAX_CHARS] or "no opinion" for _ in range(num)]
            handle.write(json.dumps(attending_sample(sample, department, opinions).to_json(), ensure_ascii=False) + "\n")
            asked += 1
    return asked


class Endpoint:
    """An OpenAI-compatible server that sees images. Standard library only; no proxies."""

    def __init__(self, url: str, model: str, *, online: bool = False, timeout_s: float = 120.0) -> None:
        if not is_local(url) and not online:
            raise ConfigError(
                f"--url {url}: is not on this machine or network, and questions with images would leave it. Add --online if they may."
            )
        self.url, self.model, self.timeout_s = url.rstrip("/"), model, timeout_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._count = 0

    def __call__(self, department: str, sample: Sample) -> str:
        """One opinion. Raises DataError when the server does not give one."""
        self._count += 1
        prompt = system_prompt(Path(__file__).parent / "prompts", "specialist", department=department)
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": data_address(media.read())}} for media in sample.media
        ]
        parts.append({"type": "text", "text": sample.messages[-1].content.replace(IMAGE, "").strip()})
        body = {"model": self.model, "temperature": 1.0, "max_tokens": 32, "seed": self._count,
                "messages": [{"role": "system", "content": prompt}, {"role": "user", "content": parts}]}  # fmt: skip
        request = urllib.request.Request(
            f"{self.url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=self.timeout_s) as reply:
                return str(json.loads(reply.read(1 << 20))["choices"][0]["message"]["content"])
        except (urllib.error.URLError, OSError, ValueError, KeyError, IndexError, TypeError) as err:
            raise DataError(
                f"{self.url}: no opinion ({type(err).__name__}: {err}). Is the server up? Start again to go on."
            ) from err


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m factory.domains.medicine.ask_specialists", description="Record specialists' opinions."
    )
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="train", choices=("train", "validation", "test"))
    parser.add_argument("--opinions", type=int, default=3)
    parser.add_argument("--triage", type=Path)
    parser.add_argument("--image-root", default="")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--online", action="store_true")
    chosen = parser.parse_args(arguments)
    try:
        options = {"image_root": chosen.image_root} if chosen.image_root else {}
        request = DataRequest(paths=tuple(chosen.data), limit=chosen.limit, options=options)
        triage = read_triage(chosen.triage) if chosen.triage else {}
        asked = record(PACK.samples(chosen.split, 0, request), Endpoint(chosen.url, chosen.model, online=chosen.online), chosen.out,
                       num=max(1, chosen.opinions), triage=triage)  # fmt: skip
    except FactoryError as err:
        sys.stderr.write(f"error: {err}\n")
        return err.exit_code
    sys.stdout.write(f"{asked} questions asked, {chosen.out} holds the opinions\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
