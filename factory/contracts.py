"""The words of the factory as types: what packs, stages and engines agree on. Stdlib only.

Everything here survives JSON (`to_json`/`from_json`) and pickle, so it can cross a process border.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from factory.errors import DataError

CONTRACT = 1
"""Version of this page. A pack's manifest names the contract it was written for."""

SPLITS = ("train", "validation", "test")
EXACT_TEXT = "exact_text"
"""Key of `Sample.meta`: true where signs and spaces are the question (2+3 and 2-3, a maze), so that in the check for overlap only
the very same text counts as equal. The split of such samples must be by exact text, as that of bridges is."""
IMAGE = "<image>"
"""Placeholder in a message or document; the n-th occurrence stands for the n-th media item."""


class Status(str, Enum):
    """What became of one verification. `error` and `timeout` are never scored as wrong: they are masked."""

    ok = "ok"
    wrong = "wrong"
    unparsable = "unparsable"
    error = "error"
    timeout = "timeout"

    @property
    def is_masked(self) -> bool:
        """True when the verifier failed, so that the rollout must not be learned from."""
        return self in (Status.error, Status.timeout)


@dataclass(frozen=True, slots=True)
class Media:
    """One image, as encoded bytes or as a path (exactly one of the two)."""

    kind: str = "image"
    data: bytes | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.path is None):
            raise DataError("a Media needs exactly one of data= (encoded bytes) and path=; got both or neither")

    def read(self) -> bytes:
        """Return the encoded bytes. Raises DataError when the file cannot be read."""
        if self.data is not None:
            return self.data
        try:
            return Path(str(self.path)).read_bytes()
        except OSError as err:
            raise DataError(f"{self.path}: cannot read the image: {err.strerror}. Check the path.") from err

    def sha256(self) -> str:
        """Hash of the encoded bytes; equal images in equal encodings have equal hashes."""
        return hashlib.sha256(self.read()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Bytes become base64, a path stays a path."""
        if self.data is not None:
            return {"kind": self.kind, "data": base64.b64encode(self.data).decode("ascii")}
        return {"kind": self.kind, "path": self.path}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Media:
        """Inverse of `to_json`."""
        data = row.get("data")
        return cls(row.get("kind", "image"), base64.b64decode(data) if data is not None else None, row.get("path"))


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn. `content` may hold `<image>` placeholders."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its media, reference answer and routing task."""

    id: str
    task: str
    messages: tuple[Message, ...]
    reference: Any
    media: tuple[Media, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    split: str = "train"
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping that `json.dumps` accepts."""
        return {
            "id": self.id, "task": self.task, "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            "reference": self.reference, "media": [m.to_json() for m in self.media], "meta": dict(self.meta),
            "split": self.split, "source": self.source,
        }  # fmt: skip

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Sample:
        """Inverse of `to_json`."""
        return cls(
            id=row["id"], task=row["task"], messages=tuple(Message(m["role"], m["content"]) for m in row["messages"]),
            reference=row["reference"], media=tuple(Media.from_json(m) for m in row.get("media", ())),
            meta=row.get("meta", {}), split=row.get("split", "train"), source=row.get("source", ""),
        )  # fmt: skip

    def text(self) -> str:
        """All message contents, joined by newlines; used for overlap checks."""
        return "\n".join(m.content for m in self.messages)


@dataclass(frozen=True, slots=True)
class Document:
    """One text (with `<image>` placeholders for its media) for continued pretraining."""

    id: str
    text: str
    media: tuple[Media, ...] = ()
    split: str = "train"
    source: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A sample with the worked response that supervised fine-tuning imitates."""

    sample: Sample
    response: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one sample, of which the first is preferred; what preference and reward-model training read."""

    sample: Sample
    chosen: str
    rejected: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    """E.g. `chosen_safe`, `rejected_safe` (bool) for a cost model."""

    def to_json(self) -> dict[str, Any]:
        """A plain mapping that `json.dumps` accepts."""
        return {"sample": self.sample.to_json(), "chosen": self.chosen, "rejected": self.rejected, "meta": dict(self.meta)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Pair:
        """Inverse of `to_json`."""
        return cls(Sample.from_json(row["sample"]), row["chosen"], row["rejected"], row.get("meta", {}))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says about one completion. `score` is in [0, 1]; a masked verdict scores 0 and is not counted."""

    score: float
    status: Status
    reason: str
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and 0.0 <= self.score <= 1.0):
            raise ValueError(f"a Verdict's score must be finite and in [0, 1], got {self.score!r}")


class Verifier(Protocol):
    """A pure function of (completion, sample): no network, clock, global state or torch.

    `name` and `version` key the cache; raise the version whenever a score can change.
    """

    name: str
    version: str

    def __call__(self, completion: str, sample: Sample) -> Verdict: ...


@dataclass(frozen=True)
class DataRequest:
    """Where a pack takes rows from. No paths means the pack's own generator."""

    paths: tuple[str, ...] = ()
    limit: int | None = None
    """At most this many items (the generator yields exactly this many when it is given)."""
    on_bad_row: str = "quarantine"
    """`quarantine` counts and writes bad rows aside, `stop` raises on the first."""
    max_bad_fraction: float = 0.05
    """Above this share of bad rows the load stops with DataError."""
    quarantine_dir: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """The pack's own settings (`pack.*` in the build's config). Kept with sorted keys: what is drawn must not hang on the order in
    which somebody wrote them."""
    online: bool = False
    """Allow the network: paths may then be hub ids (`hub:owner/name`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _key_sorted(self.options))


def _key_sorted(value: Any) -> Any:
    """The same mapping with sorted keys at every level; anything else as it is."""
    return {key: _key_sorted(value[key]) for key in sorted(value, key=str)} if isinstance(value, Mapping) else value


class ModelView(Protocol):
    """What a probe may ask of a trained model; arrays are numpy float32."""

    request: DataRequest
    """The build's data settings, limited to as many samples as the evals take."""
    answers: Mapping[str, str]
    """Sample id -> the model's completion in the primary eval, on the split that the probe is asked for."""

    def image_features(self, images: Sequence[Media]) -> Any:
        """[N, D] pooled output of the vision tower (after the projector), not normalised."""

    def continuation_logprobs(self, prompts: Sequence[tuple[str, tuple[Media, ...]]], continuations: Sequence[str]) -> Any:
        """[N] summed log-probability of each continuation after its plain-text prompt (no chat template)."""


@dataclass(frozen=True)
class Eval:
    """One held-out measurement. `qa` generates and verifies; `probe` asks a ModelView."""

    name: str
    kind: str = "qa"
    """`qa` or `probe`."""
    verifier: str = ""
    """For `qa`: the verifier whose `score` is averaged."""
    tasks: tuple[str, ...] = ()
    """For `qa`: only these tasks; empty means all."""
    probe: Callable[[ModelView, str, int], Mapping[str, float]] | None = None
    """For `probe`: (view, split, seed) -> named figures."""
    needs_vision: bool = True
    """For `probe` of a pack with images: passed over when the model has no vision tower."""
    primary: bool = False
    """The one eval by which the build compares stages."""


@dataclass(frozen=True)
class Manifest:
    """A pack's `pack.yaml`, checked. Readable without importing the pack's code."""

    name: str
    title: str
    version: str
    license: str
    intended_use: str
    not_for: str
    contract: int = CONTRACT
    provides: tuple[str, ...] = ("corpus", "lessons", "samples")
    modality: str = "text"
    """`text` or `vl`; decides which embedded base fits."""
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """task -> {"verifiers": {name: weight}, "gate": name or None, "title": str}"""
    data: tuple[Mapping[str, Any], ...] = ()
    """[{id, source, license, ...}] for the licence table."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Config layer between the factory's defaults and the recipe."""
    conformance: Mapping[str, Any] = field(default_factory=dict)
    changelog: Mapping[str, str] = field(default_factory=dict)
    trade_off: Mapping[str, Any] = field(default_factory=dict)
    """Two probe figures that the report draws against each other: {title, x, y, points: {name: [x, y]}}, x and y as `probe: figure`."""


@runtime_checkable
class DomainPack(Protocol):
    """Loaders, verifiers and evals of one domain. Deterministic in (split, seed); never imports torch."""

    manifest: Manifest

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterable[Document]: ...
    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterable[Lesson]: ...
    def samples(self, split: str, seed: int, request: DataRequest) -> Iterable[Sample]: ...
    def verifiers(self) -> Mapping[str, Verifier]: ...
    def evals(self) -> Mapping[str, Eval]: ...


@dataclass(frozen=True)
class ModelFacts:
    """What `plan` may know of a model without loading it: read from config.json or the embedded record."""

    ref: str
    modality: str
    num_params: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    context: int
    tokens_per_image: int = 0
    image_token_bytes: int = 32 * 32 * 3 * 2 * 4
    """Bytes of float32 pixels under one image token: side x side x channels x frames x 4. Qwen3-VL's, unless its config says more."""
    is_moe: bool = False
    """A mixture-of-experts model."""


@dataclass(frozen=True)
class StagePlan:
    """What one stage would do. Made without torch, GPU, network or model load."""

    name: str
    kind: str
    num_samples: int
    num_steps: int
    num_tokens: int
    """Tokens through forward+backward, over all steps (an upper estimate where lengths vary)."""
    num_generated_tokens: int = 0
    """Tokens sampled (rollouts, eval), an upper estimate."""
    peak_memory_bytes: int = 0
    memory_formula: str = ""
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class RunContext:
    """All that a running stage is given. It writes only under `workdir`."""

    stage: str
    workdir: Path
    model_dir: Path
    """Model to start from: a transformers folder, or a folder with `adapter_chain.json` (see stages/models)."""
    pack: DomainPack
    domain: str
    seed: int
    request: DataRequest
    """The build's data settings; stages `replace(request, limit=...)`."""
    build: Mapping[str, Any]
    """The whole resolved config as plain data (for `mixture`, `pool`, `eval`, `precision` ...)."""
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Finished folders of the earlier stages that this stage's config names in `reads`, by stage name."""
    log: Callable[..., None] = lambda **_: None
    """`ctx.log(step=…, loss=…)`: appends one line to metrics.jsonl and shows it live."""


@dataclass(frozen=True)
class Outputs:
    """What a stage leaves in its workdir. Paths are relative to it."""

    model: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()


class Stage(Protocol):
    """One step of a build. `plan` is pure; `run` writes only under `ctx.workdir`. Importing a stage must not import torch."""

    kind: ClassVar[str]
    config_type: ClassVar[type]
    consumes: ClassVar[frozenset[str]]
    produces: ClassVar[frozenset[str]]

    def plan(self, name: str, config: Any, facts: ModelFacts, pack: DomainPack, build: Mapping[str, Any]) -> StagePlan: ...
    def run(self, config: Any, ctx: RunContext) -> Outputs: ...
