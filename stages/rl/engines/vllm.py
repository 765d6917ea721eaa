"""Rollouts by a vLLM server in its own environment and process, reached over its API also on one machine.

After every update the weights go over as safetensors in the stage's folder: all of them by vLLM's `reload_weights` call, or only the
adapter (LoRA). Then the server carries their number, and a canary compares its log-probs of a fixed prompt with the policy's.
The main process owns the server; every process generates its share of the prompts with it.
"""

from __future__ import annotations

import logging
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from factory.config.schema import VllmConfig
from factory.errors import FactoryError, TrainingError
from factory.stages.models.export import merge
from factory.stages.models.forward import model_inputs
from factory.stages.rl.engines.protocol import WeightSource
from factory.stages.rl.engines.vllm_api import BASE_NAME, Choice, ServerGone, ServerSilent, VllmApi
from factory.stages.rl.engines.vllm_server import POLL_S, Served, VllmServer
from factory.stages.rl.engines.vllm_weights import untie
from factory.stages.rl.rollouts import Request, Rollout, Sampling, seed_of

if TYPE_CHECKING:
    from factory.stages.learner import Learner

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")
CANARY_TOKENS = 24
CANARY_NATS = {"fp32": 1e-4, "bf16": 0.1}
"""Largest gap of the canary by number format. fp32: measured 2e-6 with vLLM 0.32.0 on CPU; bf16: assumed, not measured."""
IN_FLIGHT = 64
"""Prompts that one process has at the server at a time; it batches their completions."""


@dataclass(frozen=True)
class VllmPlace:
    """Where and how an engine of one stage runs."""

    folder: Path
    """For weights and the server's log; on a disk that the server sees."""
    settings: VllmConfig
    precision: str
    temperature: float
    threads: int = 1
    max_len: int = 0
    """Longest sequence, tokens; 0: the model's context."""

    @property
    def logprobs_mode(self) -> str:
        """Rollouts carry log-probs at the sampling temperature, before top-p and top-k cut; so raw ones at 1, else the scaled ones."""
        return "raw_logprobs" if self.temperature == 1.0 else "processed_logprobs"


class VllmEngine:
    """A `RolloutEngine` (see protocol.py). Collective: `sync` and `close` are called on every process.

    Deterministic in (weights, requests, sampling, seed) up to the rounding of the server's batches.
    """

    runs_apart = True

    def __init__(self, learner: Learner, place: VllmPlace) -> None:
        """Nothing is started before the first `sync`. Raises ConfigError when vLLM's environment is not there."""
        self._learner, self._place, self._settings = learner, place, place.settings
        self._on_gpu = torch.cuda.is_available()
        self._server: VllmServer | None = None
        if learner.is_main and not self._settings.url:
            self._server = VllmServer(self._settings, place.folder, threads=place.threads, on_gpu=self._on_gpu)
        url = learner.gather(self._server.api.url if self._server else self._settings.url)[0]
        self._api = self._server.api if self._server else VllmApi(url, self._settings.request_timeout_s)
        self._version: int | None = None
        self._name = BASE_NAME
        self._is_asleep = False
        self._base: Path | None = None
        self._figures: dict[str, float] = {}
        codec = learner.loaded.codec
        ordinary = sorted(set(codec.tokenizer.get_vocab().values()) - set(codec.tokenizer.all_special_ids))
        self._canary_ids = random.Random(0).choices(ordinary, k=CANARY_TOKENS)

    def generate(self, requests: Sequence[Request], sampling: Sampling, *, seed: int) -> Iterator[Rollout]:
        """Yield rollouts prompt by prompt, as the server finishes them; one request a prompt, whose group shares the prompt's cache.

        Raises:
            TrainingError: the server refused, or died or hung more often than `launch.vllm.restarts`.
        """
        assert self._version is not None, "sync() comes first"
        version, name = self._version, self._name

        def ask(request: Request) -> list[Choice]:
            settings = self._sampling(
                sampling, request.seed if request.seed is not None else seed_of(seed, "vllm", request.place)
            )
            return self._until_answered(lambda: self._api.complete(name, request.prompt.ids, settings))

        pool = ThreadPoolExecutor(max_workers=max(1, min(len(requests), IN_FLIGHT)), thread_name_prefix="vllm")
        try:
            waiting = {pool.submit(ask, request): request for request in requests}
            for future in as_completed(waiting):
                request = waiting[future]
                for choice in future.result():
                    if len(choice.ids) != len(choice.logprobs) or not choice.ids:
                        raise TrainingError(
                            f"rl: the vLLM server returned {len(choice.ids)} tokens with {len(choice.logprobs)} log-probs for sample "
                            f"{request.sample.id!r}. Use the version that `factory doctor` names."
                        )
                    yield Rollout(
                        place=request.place, index=choice.index, ids=choice.ids, logprobs=choice.logprobs,
                        finished=choice.finished, version=version,
                    )  # fmt: skip
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def sync(self, weights: WeightSource) -> int:
        """Send the weights, number them, look at the canary. Returns the version.

        Raises:
            TrainingError: the server cannot be reached, refused the weights, carries another version, or computes other log-probs.
        """
        started = time.monotonic()
        folder = self._place.folder / f"weights-{weights.version:08d}"
        self._learner.save_model(folder)
        name = f"{BASE_NAME}-v{weights.version}" if weights.adapter else BASE_NAME
        self._on_main(lambda: self._hand_over(weights, folder, name))
        self._version, self._name = weights.version, name
        sent = time.monotonic()
        gap = self._look_at_canary(weights)
        self._figures = {
            "engine_version": float(weights.version), "engine_canary": gap, "engine_sync_s": sent - started,
            "engine_restarts": float(self._server.restarts if self._server else 0),
        }  # fmt: skip
        return weights.version

    def figures(self) -> Mapping[str, float]:
        """Of the last `sync`: version, canary gap (nats), seconds, restarts of the server so far."""
        return self._figures

    def rest(self) -> None:
        """No generation until the next `sync`: on a GPU the server gives its memory to the training. Collective."""
        if not (self._on_gpu and self._settings.sleep):
            return
        self._learner.wait()

        def sleep() -> None:
            self._api.sleep()
            self._is_asleep = True

        self._on_main(sleep)

    def close(self) -> None:
        """End the server (unless it was only attached to) and remove the weights that were sent."""
        if self._server is not None:
            self._server.close()
        if self._learner.is_main:
            for folder in [*self._place.folder.glob("weights-*"), self._place.folder / "base"]:
                shutil.rmtree(folder, ignore_errors=True)

    def _sampling(self, sampling: Sampling, seed: int) -> dict[str, Any]:
        codec = self._learner.loaded.codec
        settings: dict[str, Any] = {
            "n": sampling.group_size, "max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "seed": seed,
            "top_p": sampling.top_p, "stop_token_ids": list(codec.eos_ids), "skip_special_tokens": False,
        }  # fmt: skip
        return settings | ({"top_k": sampling.top_k} if sampling.top_k else {})

    def _hand_over(self, weights: WeightSource, folder: Path, name: str) -> None:
        """On the main process: start the server on these weights, or give them to the running one; older ones go."""
        if not weights.adapter:
            untie(folder)
        if self._is_asleep:
            self._until_answered(self._api.wake)
            self._is_asleep = False
        running = self._version is not None
        if self._server is not None:
            served = Served(
                self._base_folder() if weights.adapter else folder, {"fp32": "float32"}.get(self._place.precision, "bfloat16"),
                self._place.max_len or self._learner.max_context, self._place.logprobs_mode,
            )  # fmt: skip
            if weights.adapter:
                served = replace(served, adapter=(name, folder), adapter_rank=self._adapter_rank())
            self._server.serve(served, weights.version)
            if not running:
                self._server.wait_ready()
                log.info("vLLM %s at %s", self._until_answered(self._api.version), self._api.url)
        if running or self._server is None:
            self._until_answered(lambda: self._give(weights, folder, name), version=weights.version)
        told = self._until_answered(self._api.weight_version)
        if told != weights.version:
            raise TrainingError(
                f"rl: the vLLM server at {self._api.url} has weights {told}, not {weights.version}. Is it used by others?"
            )
        for old in self._place.folder.glob("weights-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)

    def _give(self, weights: WeightSource, folder: Path, name: str) -> None:
        if weights.adapter:
            if self._name != BASE_NAME and self._name != name:
                self._forget_adapter(self._name)
            self._api.load_adapter(name, str(folder))
        else:
            self._api.reload(str(folder))
        self._api.set_weight_version(weights.version)

    def _forget_adapter(self, name: str) -> None:
        try:
            self._api.unload_adapter(name)
        except TrainingError as err:
            log.info("the server did not know the adapter %s any more (it was restarted): %s", name, err)

    def _until_answered(self, call: Callable[[], Answer], *, version: int | None = None) -> Answer:
        """`call()`, again after each death or silence of the server, until it cannot be restarted any more.

        With `version`, a restarted server that has these weights already is an answer, too.
        """
        tries = self._settings.restarts + 1
        for attempt in range(tries):
            life = self._server.restarts if self._server is not None else 0
            try:
                return call()
            except ServerGone as err:
                log.warning("the vLLM server at %s: %s (try %d of %d)", self._api.url, err, attempt + 1, tries)
                reason = str(err)
                if self._server is not None and isinstance(err, ServerSilent):
                    self._server.kill(life)
                if attempt + 1 < tries:
                    self._wait_back()
                    if version is not None and self._server is not None:
                        return call() if self._api.weight_version() != version else None  # type: ignore[return-value]
        told = f" Its last words:\n{self._server.last_words()}\n" if self._server is not None else " "
        raise TrainingError(
            f"rl: the vLLM server at {self._api.url} did not answer {tries} times in a row; last: {reason}.{told}"
            f"Raise launch.vllm.request_timeout_s if it is only slow. The same command resumes from the last checkpoint."
        )

    def _wait_back(self) -> None:
        """Until the server is up again: its owner's watcher starts it; other processes and attached ones wait for that."""
        if self._server is not None:
            time.sleep(2 * POLL_S)  # the watcher has to see the death first
            self._server.wait_ready()
            return
        deadline = time.monotonic() + self._settings.ready_timeout_s
        while not (self._api.is_up() and self._api.weight_version() in (self._version, None)):
            if time.monotonic() > deadline:
                return
            time.sleep(4 * POLL_S)

    def _look_at_canary(self, weights: WeightSource) -> float:
        """Largest gap between the server's and the policy's log-probs of the fixed prompt, nats. Collective: a split model needs all."""
        ids = self._canary_ids
        batch = self._learner.loaded.codec.collate([self._encoded(ids)], device=self._learner.device)
        was_training = weights.model.training
        weights.model.eval()
        with torch.no_grad(), self._learner.autocast():
            logits = weights.model(**model_inputs(batch)).logits[0].float()
        weights.model.train(was_training)
        ours = logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:], device=logits.device)[:, None]).squeeze(-1).tolist()

        def compare() -> float:
            theirs = self._until_answered(lambda: self._api.prompt_logprobs(self._name, ids))
            gap = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
            allowed = self._settings.canary_nats or CANARY_NATS[self._place.precision]
            if not gap <= allowed:
                raise TrainingError(
                    f"rl: after update {weights.version} the vLLM server's log-probs of a fixed prompt differ from the policy's by up to "
                    f"{gap:.3g} nats (allowed: {allowed:g}). It has other weights or computes in another number format. "
                    f"Look at {self._place.folder / 'server.log'}; launch.vllm.canary_nats sets the limit."
                )
            return gap

        return self._on_main(compare)

    def _encoded(self, ids: list[int]) -> Any:
        from factory.stages.models.codec import Encoded

        return Encoded(ids, [0] * len(ids))

    def _base_folder(self) -> Path:
        """Full weights under the adapter: the base itself, or a copy with the earlier adapters merged."""
        loaded = self._learner.loaded
        if self._base is None:
            self._base = merge(loaded.earlier[-1], self._place.folder / "base") if loaded.earlier else loaded.base
        return self._base

    def _adapter_rank(self) -> int:
        return max(int(config.r) for config in self._learner.model.peft_config.values())

    def _on_main(self, work: Callable[[], Answer]) -> Answer:
        """Do it on the main process; its result, or its error, on every process, so that none waits for one that failed."""
        outcome: tuple[Any, FactoryError | None] = (None, None)
        if self._learner.is_main:
            try:
                outcome = (work(), None)
            except FactoryError as err:
                outcome = (None, err)
        result, error = self._learner.gather(outcome)[0]
        if error is not None:
            raise error
        return result
