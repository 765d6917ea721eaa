"""Several packs as one: `--domain chemistry,biology --mix 0.6,0.4`. Stages see one pack and need not know.

Names of tasks, verifiers, evals and items are put under their pack (`chemistry/balance`), so that none can clash.

- Training items (corpus, lessons, samples of `train`) are drawn in the shares of `pack.mix`, evenly mixed and in a fixed order.
- Held-out samples are drawn in equal shares whatever the mix, so that each domain is measured equally well; the stage that is
  kept is the best over all domains alike. The report has a row for each.
- `pack.NAME.*` are the options of one pack, and `pack.NAME.paths` its data (`--data` does not say whose it is).

A domain is added to a finished model in the same way: the new pack first with most of the mix, the earlier one with the rest as
rehearsal (`--domain new,earlier --mix 0.8,0.2 --base MODEL`). The earlier domain's row then tells what was forgotten. A stage of
kind `expert` learns from the same mix what to answer and what to pass on (docs/decisions/0008).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from factory.contracts import (
    SPLITS,
    DataRequest,
    Document,
    DomainPack,
    Eval,
    Lesson,
    Manifest,
    ModelView,
    Sample,
    Verdict,
    Verifier,
)
from factory.errors import ConfigError, DataError, PluginError, near_miss

T = TypeVar("T")
ACCURACY = "accuracy"
"""The composed pack's own eval and verifier: each sample is judged by the primary eval of its own pack."""
MIX, PATHS = "mix", "paths"


def under(name: str, sample: Sample) -> Sample:
    """The sample with its id, task and group put under a pack's name."""
    meta = dict(sample.meta)
    if meta.get("group"):
        meta["group"] = f"{name}/{meta['group']}"
    return replace(sample, id=f"{name}/{sample.id}", task=f"{name}/{sample.task}", meta=meta)


def as_own(name: str, sample: Sample) -> Sample:
    """The inverse of `under`: the sample as its own pack made it."""
    start, meta = f"{name}/", dict(sample.meta)
    if isinstance(meta.get("group"), str):
        meta["group"] = meta["group"].removeprefix(start)
    return replace(sample, id=sample.id.removeprefix(start), task=sample.task.removeprefix(start), meta=meta)


class OwnVerifier:
    """A pack's verifier under the pack's name; it is shown the sample as its pack made it."""

    def __init__(self, pack: str, inner: Verifier) -> None:
        self.pack, self.inner = pack, inner
        self.name, self.version = f"{pack}/{inner.name}", inner.version
        # The verifier pool's cache is keyed by the source of this module's package: the inner one's counts.
        self.__module__ = type(inner).__module__

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The inner verifier's verdict."""
        return self.inner(completion, as_own(self.pack, sample))


@dataclass(frozen=True)
class ByPack:
    """The primary verifier of the sample's own pack. Raises ValueError for a sample of none of them."""

    routes: Mapping[str, Verifier]
    name: str = ACCURACY

    @property
    def version(self) -> str:
        """Changes with any of the routed ones."""
        return "+".join(f"{pack}:{verifier.version}" for pack, verifier in self.routes.items())

    def __call__(self, completion: str, sample: Sample) -> Verdict:
        """The routed verdict."""
        pack = sample.task.partition("/")[0]
        if pack not in self.routes:
            raise ValueError(f"sample {sample.id} has the task {sample.task!r}; packs are {', '.join(self.routes)}")
        return self.routes[pack](completion, sample)


class OwnView:
    """What a pack's probe sees of the model: its own options and the answers to its own samples."""

    def __init__(self, view: ModelView, name: str, pack: ComposedPack) -> None:
        self._view = view
        self.request = pack.request_of(name, view.request, view.request.limit)
        start = f"{name}/"
        self.answers = {key.removeprefix(start): text for key, text in view.answers.items() if key.startswith(start)}

    def __getattr__(self, key: str) -> Any:
        return getattr(self._view, key)


class ComposedPack:
    """Several packs as one.

    Args:
        packs: name -> pack, the leading one first.
    """

    def __init__(self, packs: Mapping[str, DomainPack]) -> None:
        self.packs = dict(packs)
        self.manifest = compose_manifests(tuple(packs), [pack.manifest for pack in packs.values()])

    def corpus(self, split: str, seed: int, request: DataRequest) -> Iterator[Document]:
        """Documents of all packs that have some, in the shares of the mix."""
        return self._mixed("corpus", split, seed, request, lambda name, one: replace(one, id=f"{name}/{one.id}"))

    def lessons(self, split: str, seed: int, request: DataRequest) -> Iterator[Lesson]:
        """Lessons of all packs that have some, in the shares of the mix."""
        return self._mixed("lessons", split, seed, request, lambda name, one: replace(one, sample=under(name, one.sample)))

    def samples(self, split: str, seed: int, request: DataRequest) -> Iterator[Sample]:
        """Samples of all packs that have some: `train` in the shares of the mix, held-out splits in equal shares."""
        return self._mixed("samples", split, seed, request, under)

    def verifiers(self) -> dict[str, Verifier]:
        """`pack/verifier` for each, and `accuracy`."""
        found: dict[str, Verifier] = {}
        for name, pack in self.packs.items():
            found |= {f"{name}/{key}": OwnVerifier(name, verifier) for key, verifier in pack.verifiers().items()}
        found[ACCURACY] = ByPack({name: found[f"{name}/{self._primary(name).verifier}"] for name in self.packs})
        return found

    def evals(self) -> dict[str, Eval]:
        """`accuracy` over all packs is primary; the packs' further evals and probes keep their own, under the pack's name."""
        found = {ACCURACY: Eval(ACCURACY, verifier=ACCURACY, primary=True)}
        for name, pack in self.packs.items():
            for key, one in pack.evals().items():
                if one.primary and one.kind == "qa":
                    continue
                tasks = tuple(f"{name}/{task}" for task in (one.tasks or pack.manifest.tasks)) if one.kind == "qa" else ()
                verifier = f"{name}/{one.verifier}" if one.verifier else ""
                probe = self._probe(name, one.probe) if one.probe is not None else None
                found[f"{name}/{key}"] = replace(
                    one, name=f"{name}/{key}", verifier=verifier, tasks=tasks, probe=probe, primary=False
                )
        return found

    def _probe(
        self, name: str, probe: Callable[[ModelView, str, int], Mapping[str, float]]
    ) -> Callable[..., Mapping[str, float]]:
        return lambda view, split, seed: probe(OwnView(view, name, self), split, seed)

    def gives(self, request: DataRequest) -> frozenset[str]:
        """Which of `corpus`, `lessons`, `samples` any pack gives under these options."""
        return frozenset().union(*(self._gives(name, request) for name in self.packs))

    def _gives(self, name: str, request: DataRequest) -> frozenset[str]:
        pack = self.packs[name]
        own, asked = getattr(pack, "gives", None), self.request_of(name, request)
        return frozenset(own(asked) if own and asked.paths else pack.manifest.provides)

    def _primary(self, name: str) -> Eval:
        hits = [one for one in self.packs[name].evals().values() if one.primary and one.kind == "qa"]
        if len(hits) != 1:
            raise PluginError(f"pack '{name}' marks {len(hits)} evals as primary; exactly one `qa` eval must be. Mend the pack.")
        return hits[0]

    def request_of(self, name: str, request: DataRequest, limit: int | None = None) -> DataRequest:
        """One pack's share of a request: its own options and paths."""
        if request.paths:
            raise ConfigError(
                f"data.paths ({', '.join(request.paths)}) does not say which of {', '.join(self.packs)} reads it. "
                f"Use --set pack.{name}.{PATHS}=[PATH] instead of --data."
            )
        own = dict(read_options(request.options, tuple(self.packs))[name])
        paths = tuple(own.pop(PATHS, None) or ())
        return replace(request, paths=paths, options=own, limit=limit)

    def _mixed(self, role: str, split: str, seed: int, request: DataRequest, rename: Callable[[str, T], T]) -> Iterator[T]:
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}.{near_miss(split, SPLITS)} Use {', '.join(SPLITS)}.")
        names = [name for name in self.packs if role in self._gives(name, request)]
        if not names:
            raise DataError(f"none of {', '.join(self.packs)} gives {role}. Leave that stage out.")
        shares = read_mix(request.options, tuple(self.packs))
        weights = {name: shares[name] if split == "train" else 1.0 for name in names}
        if not sum(weights.values()) > 0:
            raise ConfigError(
                f"pack.mix gives no share to {', '.join(names)}, which alone have {role}. Raise one, or leave that stage out."
            )
        counts = None if request.limit is None else counted(weights, request.limit)
        sources: dict[str, Iterator[T]] = {}
        for name, weight in weights.items():
            limit = None if counts is None else counts[name]
            if weight > 0 and limit != 0:
                sources[name] = iter(getattr(self.packs[name], role)(split, seed, self.request_of(name, request, limit)))
        return (rename(name, item) for name, item in interleaved(sources, weights))


def order_of(weights: Mapping[str, float]) -> Iterator[str]:
    """Names without end, each as often as its weight says and as evenly spread as can be; a prefix never depends on the length."""
    total, taken, place = math.fsum(weights.values()), dict.fromkeys(weights, 0), 0
    while True:
        place += 1
        # The one that lags furthest behind its share; of equals the first.
        name = max(weights, key=lambda one: weights[one] / total * place - taken[one])
        taken[name] += 1
        yield name


def counted(weights: Mapping[str, float], limit: int) -> dict[str, int]:
    """How many of `limit` items each name gets."""
    found = dict.fromkeys(weights, 0)
    for name, _ in zip(order_of(weights), range(limit), strict=False):
        found[name] += 1
    return found


def interleaved(sources: Mapping[str, Iterator[T]], weights: Mapping[str, float]) -> Iterator[tuple[str, T]]:
    """Items of all sources in the order of `order_of`; when one has no more, its places fall away."""
    remaining = dict(sources)
    order = order_of({name: weights[name] for name in remaining}) if remaining else iter(())
    while remaining:
        name = next(order)
        if name not in remaining:
            continue
        try:
            yield name, next(remaining[name])
        except StopIteration:
            del remaining[name]


def read_mix(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """`pack.mix` as name -> share of the training items, summing to 1; equal when it is not set.

    Raises:
        ConfigError: an unknown pack, one left out, or a share that is no finite number of 0 or more.
    """
    given = options.get(MIX)
    if given is None:
        return dict.fromkeys(names, 1.0 / len(names))
    if not isinstance(given, Mapping):
        raise ConfigError(f"pack.mix is {given!r}; want a share for each pack, such as {{{names[0]}: 0.6, {names[-1]}: 0.4}}.")
    for name in given:
        if name not in names:
            raise ConfigError(
                f"pack.mix.{name}: '{name}' is none of the build's packs.{near_miss(str(name), names)} They are {', '.join(names)}."
            )
    for name in names:
        share = given.get(name)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < math.inf:
            raise ConfigError(f"pack.mix.{name} is {share!r}; want a finite number, 0 or more, for each of {', '.join(names)}.")
    total = math.fsum(given.values())
    if not total > 0:
        raise ConfigError("pack.mix gives no pack a share above 0. Raise one.")
    return {name: given[name] / total for name in names}


def read_options(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """name -> that pack's own options. Raises ConfigError for a key that is neither `mix` nor a pack."""
    for key, value in options.items():
        if key != MIX and key not in names:
            raise ConfigError(
                f"pack.{key}: this build has several packs, so options stand under their pack's name. Write, for example, "
                f"pack.{names[0]}.{key}.{near_miss(str(key), names)}"
            )
        if key != MIX and not isinstance(value, Mapping):
            raise ConfigError(f"pack.{key} is {value!r}; want a mapping of that pack's options.")
    return {name: options.get(name) or {} for name in names}


def member_paths(options: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """All data that the packs are told to read (`pack.NAME.paths`)."""
    found = [path for own in read_options(options, names).values() for path in own.get(PATHS) or ()]
    return [str(path) for path in found]


def compose_manifests(names: Sequence[str], manifests: Iterable[Manifest]) -> Manifest:
    """One manifest that says what each says. `defaults` stay with the packs: `factory.config.compose` lays them one by one."""
    found = dict(zip(names, manifests, strict=True))

    def said(key: str) -> str:
        return "\n".join(f"{one.title}: {str(getattr(one, key)).strip()}" for one in found.values())

    licences = list(dict.fromkeys(one.license for one in found.values()))
    return Manifest(
        name=",".join(names), title=" and ".join(one.title for one in found.values()),
        version="+".join(one.version for one in found.values()), license=" AND ".join(licences),
        intended_use=said("intended_use"), not_for=said("not_for"),
        provides=tuple(role for role in ("corpus", "lessons", "samples") if any(role in one.provides for one in found.values())),
        modality="vl" if any(one.modality == "vl" for one in found.values()) else "text",
        tasks={f"{name}/{task}": _task(name, row) for name, one in found.items() for task, row in one.tasks.items()},
        data=tuple({**row, "id": f"{name}/{row.get('id')}"} for name, one in found.items() for row in one.data),
    )  # fmt: skip


def _task(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    weights = {f"{name}/{verifier}": weight for verifier, weight in (row.get("verifiers") or {}).items()}
    gate = f"{name}/{row['gate']}" if row.get("gate") else None
    return {**row, "verifiers": weights, "gate": gate}
