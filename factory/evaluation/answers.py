"""Answers to held-out questions, kept as they come: a stopped evaluation goes on where it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from factory.contracts import Sample
from factory.errors import ConfigError
from factory.evaluation.endpoint import Answer, Asking, Endpoint
from factory.report.read import read_jsonl

Key = tuple[str, int]
"""(sample id, attempt)."""


class AnswerFile:
    """`answers.jsonl`: one line per answer. The first line says how they were asked; other settings are another file."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Raises ConfigError when the file holds answers that were asked otherwise."""
        self._path, self._lock = path, threading.Lock()
        rows = read_jsonl(path)
        if rows and rows[0].get("settings") != settings:
            raise ConfigError(f"{path}: holds answers to other questions or settings. Give another --run, or delete the folder.")
        self.found: dict[Key, Answer] = {
            (row["id"], row["attempt"]): Answer(row["text"], row["tokens"], row["finished"]) for row in rows[1:]
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew: a last line that a kill cut off would spoil the next.
        lines = [{"settings": settings}, *(self._row(key, answer) for key, answer in self.found.items())]
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
        partial.replace(path)

    def keep(self, key: Key, answer: Answer) -> None:
        """Write one answer down. Safe from several threads."""
        with self._lock:
            self.found[key] = answer
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._row(key, answer), ensure_ascii=False) + "\n")

    @staticmethod
    def _row(key: Key, answer: Answer) -> dict[str, Any]:
        return {"id": key[0], "attempt": key[1], "text": answer.text, "tokens": answer.tokens, "finished": answer.finished}

    def missing(self, samples: Iterable[Sample], attempts: int) -> list[tuple[Sample, int]]:
        """What has still to be asked, attempt by attempt."""
        listed = list(samples)
        return [(sample, number) for number in range(attempts) for sample in listed if (sample.id, number) not in self.found]


def ask_endpoint(
    endpoint: Endpoint, samples: Sequence[Sample], attempts: int, asking: Asking, file: AnswerFile, *, seed: int,
    concurrency: int, on_answer: Callable[[int, int], None] = lambda done, total: None,
) -> None:  # fmt: skip
    """Ask what is missing, `concurrency` requests at a time; on an error nothing new is asked and the answers so far are kept.

    Raises:
        ModelError: as `Endpoint.ask`.
    """
    todo, total = file.missing(samples, attempts), len(samples) * attempts
    stopped = threading.Event()

    def one(sample: Sample, number: int) -> None:
        if stopped.is_set():
            return
        try:
            file.keep((sample.id, number), endpoint.ask(sample.messages, sample.media, asking, seed + number))
        except BaseException:
            stopped.set()
            raise
        on_answer(len(file.found), total)

    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        futures = [pool.submit(one, sample, number) for sample, number in todo]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except BaseException:
            stopped.set()
            raise
        failed = [error for future in futures if future.done() and (error := future.exception()) is not None]
    if failed:
        raise failed[0]


def ask_local(
    loaded: Any, samples: Sequence[Sample], attempts: int, asking: Asking, file: AnswerFile, *, seed: int, batch_size: int,
    on_answer: Callable[[int, int], None] = lambda done, total: None,
) -> None:  # fmt: skip
    """The same from a model in memory. A row's draws depend on the seed and the sample alone, so a resumed run draws the same.

    Args:
        loaded: a `factory.stages.models.load.LoadedModel`.
    """
    import torch

    from factory.stages.models.generate import generate, uniform_draws

    wanted = {sample.id: sample for sample, _ in file.missing(samples, attempts)}
    listed, per_batch = list(wanted.values()), max(1, batch_size // attempts)
    for start in range(0, len(listed), per_batch):
        chunk = listed[start : start + per_batch]
        draws = None
        if asking.temperature > 0:
            rows = [uniform_draws(_generator(torch, seed, sample.id), attempts, asking.max_new_tokens) for sample in chunk]
            draws = torch.stack(rows)
        prompts = [loaded.codec.prompt(sample.messages, sample.media) for sample in chunk]
        for done in generate(
            loaded, prompts, num_return=attempts, max_new_tokens=asking.max_new_tokens, temperature=asking.temperature,
            top_p=asking.top_p, draws=draws,
        ):  # fmt: skip
            key = (chunk[done.prompt_index].id, done.sample_index)
            if key not in file.found:
                file.keep(key, Answer(loaded.codec.completion(done.ids), len(done.ids), done.finished))
        on_answer(len(file.found), len(samples) * attempts)


def _generator(torch: Any, seed: int, name: str) -> Any:
    import hashlib

    digest = hashlib.sha256(f"{seed}\n{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
