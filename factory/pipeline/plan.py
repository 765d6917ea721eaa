"""Plan a build: its steps, what each would cost, and which are finished already. Pure: no torch, no network, nothing written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from factory.config.compose import Composed
from factory.config.schema import BuildConfig
from factory.contracts import Manifest, ModelFacts, StagePlan
from factory.errors import BrokenPlugin, ConfigError
from factory.launch.devices import num_gpus
from factory.launch.launchers import check_launcher
from factory.packs.composed import member_paths, read_mix
from factory.pipeline import estimate as est
from factory.pipeline.base_ref import BaseRef, find_base_ref, modality_of
from factory.pipeline.calibration import FORKING, IN_PLACE, LOAD_S, read_calibration
from factory.pipeline.fingerprint import (
    files_identity,
    identity_of_settings,
    library_versions,
    named_paths,
    pack_source,
    plugin_sources,
    shared_source,
    stage_source,
    without_unread,
)
from factory.pipeline.folder import RunFolder
from factory.pipeline.sharding import with_sharding
from factory.pipeline.steps import Step, order_steps
from factory.plugins import load_pack, load_stage, member_names
from factory.registry.files import sha256_json
from factory.registry.home import Home
from factory.registry.licence_classes import licence_notes, parts_of_build
from factory.registry.records import SAFE_NAME


@dataclass(frozen=True)
class PlannedStep:
    """One step with its cost and whether it would run."""

    step: Step
    plan: StagePlan
    fingerprint: str
    parameters: Mapping[str, Any]
    """What the fingerprint was made of."""
    is_cached: bool
    why: str
    seconds: float
    seconds_formula: str
    disk_bytes: int
    process_bytes: int = 0
    """Main memory beside the model's; 0 on a GPU."""
    costs_like: str = ""
    """The kind under which its time is learned: the step's own, but a base that is used where it lies costs nothing like one that is made."""

    @property
    def memory_bytes(self) -> int:
        """Peak memory of one process."""
        return self.process_bytes + self.plan.peak_memory_bytes

    @property
    def name(self) -> str:
        """Name of the step's folder."""
        return self.step.name

    def to_json(self) -> dict[str, Any]:
        """One row of plan.json."""
        cost = {"seconds": round(self.seconds, 1), "seconds_formula": self.seconds_formula, "disk_bytes": self.disk_bytes}
        cost |= {"process_bytes": self.process_bytes, "memory_bytes": self.memory_bytes, "costs_like": self.costs_like}
        state = {"fingerprint": self.fingerprint, "is_cached": self.is_cached, "why": self.why}
        return {**asdict(self.plan), **asdict(self.step), **cost, **state}


@dataclass(frozen=True)
class BuildPlan:
    """A build that could run. Figures that count only what would run leave finished steps out."""

    run: str
    folder: RunFolder
    home: Home
    composed: Composed
    base: BaseRef
    steps: tuple[PlannedStep, ...]
    device: est.Device
    pack: Mapping[str, str]
    """name, version, hash, licence."""
    data: Mapping[str, str]
    """Path -> hash of the user's files."""
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    """What lineage and card must say of the build's terms and of what was done about identifiers of persons."""

    @property
    def config(self) -> BuildConfig:
        """The settings."""
        return self.composed.config

    @property
    def to_run(self) -> list[PlannedStep]:
        """Steps that are not finished."""
        return [step for step in self.steps if not step.is_cached]

    @property
    def seconds(self) -> float:
        """Estimated time of what would run, with the load of the libraries where the steps share one."""
        shared_s = LOAD_S if self.to_run and self.device.name in FORKING else 0.0
        return shared_s + sum(step.seconds for step in self.to_run)

    @property
    def disk_bytes(self) -> int:
        """Estimated disk space of what would run."""
        return sum(step.disk_bytes for step in self.to_run)

    @property
    def peak_memory_bytes(self) -> int:
        """The largest step's memory on one process: main memory on CPU, the GPU's on a GPU."""
        return max(step.memory_bytes for step in self.steps)

    def writes(self) -> list[str]:
        """What a build would write: files of the run folder, then the folders of the steps that would run."""
        files = ("resolved.yaml", "provenance.yaml", "plan.json", "run.json", "overlap.json", "metrics.jsonl", "result.json")
        return [str(self.folder.root / name) for name in files] + [str(self.folder.final(step.name)) for step in self.to_run]

    def to_json(self) -> dict[str, Any]:
        """Content of plan.json."""
        return {
            "run": self.run, "device": self.device.name, "device_source": self.device.source, "seconds": round(self.seconds, 1),
            "disk_bytes": self.disk_bytes, "peak_memory_bytes": self.peak_memory_bytes,
            "base": {"ref": self.base.ref, "how": self.base.how}, "pack": dict(self.pack), "data": dict(self.data), "notes": list(self.notes),
            "versions": dict(self.versions), "steps": [step.to_json() for step in self.steps],
        }  # fmt: skip


def run_name(composed: Composed) -> str:
    """`<domain>-<recipe>-s<seed>-<8 digits of the config's hash>`: the same command names the same run, hence resumes it.

    Also with another number of processes: a job that was queued again on other machines goes on.
    """
    config = composed.config
    recipe = re.sub(r"[^A-Za-z0-9._-]+", "-", config.recipe.rsplit("/", 1)[-1].removesuffix(".yaml")).strip("-.") or "recipe"
    domain = re.sub(r"[^A-Za-z0-9._-]+", "-", config.domain)
    return f"{domain}-{recipe}-s{config.seed}-{sha256_json(without_unread(composed.plain))[:8]}"


def make_plan(composed: Composed, *, home: Home | None = None, run: str | None = None, eval_kind: str = "eval") -> BuildPlan:
    """Plan the build of a composed config.

    Args:
        home: FACTORY_HOME; found from the environment when None.
        run: name of the run; by default `run_name(composed)`.
        eval_kind: stage kind of the measurement after the base and every stage.

    Raises:
        ConfigError: settings that cannot be built (unknown or circular start, missing base, unusable run name).
        DataError: a data path does not exist.
        PluginError, ModelError: pack, stage kind or base cannot be used.
    """
    config, home = composed.config, home or Home.find()
    name = run or run_name(composed)
    if not SAFE_NAME.fullmatch(name):
        raise ConfigError(f"--run '{name}' cannot name a folder. Use letters, digits, '.', '_' and '-'.")
    check_launcher(config.launch.launcher)
    pack = load_pack(config.domain)
    if not hasattr(pack, "manifest"):
        raise BrokenPlugin(
            f"'{config.domain}' is installed, but what it offers is a {type(pack).__name__} and no pack. Mend or uninstall it."
        )
    base = find_base_ref(config.base, config.revision, modality_of(pack, config.pack), online=config.online)
    composed, why = with_sharding(
        composed, base.facts,
        lambda trial: [
            replace(_stage_plan(step, trial, base, pack), name=str(step.stage))
            for step in order_steps(config.stages, eval_kind=eval_kind) if step.role == "stage"
        ],
    )  # fmt: skip
    config = composed.config
    facts_of_pack = {
        "name": pack.manifest.name, "version": pack.manifest.version, "license": pack.manifest.license,
        "hash": pack_source(config.domain),
    }  # fmt: skip
    data = files_identity(data_paths(config), online=config.online)
    notes = terms_of(config, base, pack.manifest)
    versions, device = library_versions(), est.device_for(num_gpus())
    shared = {"pack": facts_of_pack["hash"], "data": data, "versions": versions, "source": shared_source()}
    calibration = read_calibration(home.cache / "calibration.json")
    run_folder, planned = RunFolder(home.runs / name), {}
    for step in order_steps(config.stages, eval_kind=eval_kind):
        stage_plan = _stage_plan(step, composed, base, pack)
        if step.role == "base":
            stage_plan = replace(stage_plan, notes=(*stage_plan.notes, *why))
        start = planned[step.start].fingerprint if step.start else None
        reads = {stage: planned[other].fingerprint for stage, other in step.reads.items()}
        parameters = _parameters(step, composed, base, shared, start, reads)
        fingerprint = sha256_json(parameters)
        state = run_folder.state(step.name, fingerprint, parameters)
        processes = config.launch.processes if step.role == "stage" else 1
        kind = IN_PLACE if step.role == "base" and base.is_in_place else step.kind
        known = calibration.factors(device.name, kind, pack.manifest.name)
        time = est.estimate(stage_plan, base.facts, device, processes=processes, factors=known)
        planned[step.name] = PlannedStep(
            step, stage_plan, fingerprint, parameters, state.is_cached, state.why, time.seconds, time.formula,
            _disk(step, composed, base), est.process_bytes(calibration, device, kind, pack.manifest.name), kind,
        )  # fmt: skip
    return BuildPlan(
        name, run_folder, home, composed, base, tuple(planned.values()), device, facts_of_pack, data, versions, notes
    )


def terms_of(config: BuildConfig, base: BaseRef, manifest: Manifest) -> tuple[str, ...]:
    """Notes on licences and identifiers for lineage and card. Raises ConfigError for a licence conflict that nothing overrides."""
    has_data = bool(data_paths(config))
    parts = parts_of_build(
        {"name": base.hub_id or base.ref, "licence": base.licence}, {"name": manifest.name, "license": manifest.license}, manifest.data,
        config.data.licence, has_data=has_data,
    )  # fmt: skip
    notes = licence_notes(parts, config.intended_use.value, config.licence_override)
    mode = config.pack.get("identifiers")
    if has_data and mode in ("redact", "allow"):
        done = "masked" if mode == "redact" else "not looked for"
        notes.append(f"identifiers of persons in the texts of the user's data were {done} (pack.identifiers={mode})")
    return tuple(notes)


def data_paths(config: BuildConfig) -> list[str]:
    """The user's data of a build: `data.paths`, or of several packs what each is told to read. Raises ConfigError for a wrong `pack.mix`."""
    names = member_names(config.domain)
    if len(names) == 1:
        return list(config.data.paths)
    read_mix(config.pack, names)
    return [*config.data.paths, *member_paths(config.pack, names)]


def _stage_plan(step: Step, composed: Composed, base: BaseRef, pack: Any) -> StagePlan:
    if step.role == "base":
        return _base_plan(step, base.facts, base)
    stage = load_stage(step.kind)
    config = stage.config_type(kind=step.kind) if step.role == "eval" else composed.config.stages[step.stage]
    # Messages of a stage name the user's key (`stages.rl`), so it is given the recipe's name; rows of the plan have the step's.
    return replace(stage.plan(step.stage, config, base.facts, pack, composed.plain), name=step.name)


def _base_plan(step: Step, facts: ModelFacts, base: BaseRef) -> StagePlan:
    notes = {
        "embedded": "creates a small untrained model from the seed and the pack's own texts",
        "folder": f"uses {base.folder} in place",
        "hub": f"downloads {base.hub_id}" if base.folder is None else f"uses the downloaded {base.hub_id} in place",
    }
    return StagePlan(
        name=step.name, kind="base", num_samples=0, num_steps=0, num_tokens=0, peak_memory_bytes=facts.num_params * 4,
        memory_formula=f"{facts.num_params:,} parameters x 4 B", outputs=("model",), notes=(notes[base.how],),
    )  # fmt: skip


def training_files(stages: Mapping[str, Any]) -> list[str]:
    """Files of lessons or pairs that the stages train on, as far as their kinds offer `training_files(config)`; no repeats.

    Their content counts in the fingerprint of the stage, and their samples in the overlap check.
    """
    found: list[str] = []
    for config in stages.values():
        offered = getattr(load_stage(config.kind), "training_files", None)
        found += [str(path) for path in offered(config)] if offered else []
    return list(dict.fromkeys(found))


def _parameters(
    step: Step, composed: Composed, base: BaseRef, shared: Mapping[str, Any], start: str | None, reads: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that could change the step's outputs, as plain data."""
    if step.role == "base":
        model = {"how": base.how, "ref": base.hub_id or ("" if base.folder else base.ref), "revision": composed.config.revision}
        if base.is_in_place:
            # The user's own weights depend on nothing of ours. A hub model counts by name: before the first run it is not here.
            files = files_identity([base.folder]) if base.how == "folder" and base.folder is not None else {}
            return {"kind": "base", "base": model, "files": {Path(name).name: digest for name, digest in files.items()}}
        return {
            "kind": "base",
            "base": model,
            "seed": composed.config.seed,
            "pack_options": dict(composed.plain["pack"]),
            **shared,
        }
    own = {} if step.role == "eval" else composed.plain["stages"][step.stage]
    settings = identity_of_settings(composed.plain, step.role)
    if step.role == "eval":
        offered = getattr(load_stage(step.kind), "settings_files", None)
        files = list(offered(composed.plain)) if offered else []
    else:
        files = named_paths(own) + training_files({step.stage: composed.config.stages[step.stage]})
    plugins = {} if step.role == "eval" else plugin_sources(load_stage(step.kind), composed.config.stages[step.stage])
    return {
        **({"plugins": plugins} if plugins else {}),
        "kind": step.kind,
        "code": stage_source(load_stage(step.kind)),
        "config": own,
        "files": files_identity(files, online=composed.config.online),
        "build": settings,
        "start": start,
        "reads": dict(reads),
        **shared,
    }


def _disk(step: Step, composed: Composed, base: BaseRef) -> int:
    adapter = getattr(composed.config.stages.get(step.stage), "adapter", None)
    rank = adapter.rank if adapter is not None and adapter.kind.value != "none" else None
    return est.disk_bytes(
        base.facts, precision=composed.config.precision.value, role=step.role, is_in_place=base.is_in_place, adapter_rank=rank
    )
