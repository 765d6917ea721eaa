"""One finished stage of a run as a folder with a TRL script, the weights it started from and the rows it learned from.

An sft script trains the same rows in the same order with the same optimiser, without factory, and compares its losses with
the stage's. An rl script is GRPO as TRL has it, on the same prompts with the same verifiers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from factory.contracts import Media, RunContext
from factory.errors import ConfigError, RegistryError
from factory.interop.trl_settings import grpo_settings, sft_settings
from factory.pipeline.worker import config_from_plain, request_from_plain
from factory.plugins import load_pack, load_stage
from factory.registry.files import read_json
from factory.registry.home import Home
from factory.registry.run_settings import read_run_settings
from factory.report.read import read_jsonl


@dataclass(frozen=True)
class Finished:
    """A finished training stage."""

    run: Path
    stage: str
    kind: str
    folder: Path
    start: Path
    """Folder of the model it started from."""
    config: Mapping[str, Any]
    """The whole build's."""


def write_script(name: str, out: Path) -> dict[str, Any]:
    """Write the folder for `RUN:STAGE`; `out` must not exist. Returns `source` and `notes` for people.

    Raises:
        ConfigError: not RUN:STAGE, or a stage that TRL has no like of.
        RegistryError: no such run or stage.
    """
    done = find_stage(name)
    out.mkdir(parents=True)
    stage = load_stage(done.kind)
    config = config_from_plain(stage.config_type, done.config["stages"][done.stage])
    ctx = _context(done, out / ".work")
    writer = {"sft": _write_sft, "rl": _write_rl}[done.kind]
    notes = writer(done, config, ctx, out)
    shutil.rmtree(out / ".work", ignore_errors=True)
    return {"source": str(done.folder), "kind": done.kind, "notes": notes}


def find_stage(name: str) -> Finished:
    """The stage that `RUN:STAGE` names; RUN is a run's name or folder. Raises ConfigError, RegistryError."""
    run_name, _, stage = name.rpartition(":")
    if not run_name or not stage:
        raise ConfigError(f"--trl-script wants RUN:STAGE, for example pathology-embedded-s0-1a2b3c4d:sft; got {name!r}.")
    run = Path(run_name).expanduser() if Path(run_name).expanduser().is_dir() else Home.find().runs / run_name
    if not (run / "resolved.yaml").is_file():
        raise RegistryError(f"{run}: is no run folder. `factory models list` and the output of `factory build` name the runs.")
    config = read_run_settings(run)
    kinds = {key: row.get("kind", key) for key, row in (config.get("stages") or {}).items() if row}
    kind = kinds.get(stage)
    if kind not in ("sft", "rl"):
        able = ", ".join(key for key, one in kinds.items() if one in ("sft", "rl")) or "none"
        raise ConfigError(
            f"{name}: stage '{stage}' is {kind or 'not in the run'}; scripts are written of sft and rl stages: {able}."
        )
    folder = next(
        (path for path in sorted((run / "stages").glob(f"[0-9][0-9]-{stage}")) if (path / "stage.lock").is_file()), None
    )
    if folder is None:
        raise RegistryError(f"{run}: stage '{stage}' has not finished. Run the build to its end first.")
    start = read_json(folder / "stage.lock")["inputs"]["start"]
    model = run / "stages" / start / read_json(run / "stages" / start / "stage.lock")["outputs"]["model"]
    return Finished(run, stage, kind, folder, model, config)


def _context(done: Finished, workdir: Path) -> RunContext:
    """What the stage was given, as far as its data need it."""
    workdir.mkdir()
    plain = done.config
    # As the stage's job file had it: keys in order, on which a generator's draws may depend.
    options = json.loads(json.dumps(plain["pack"], sort_keys=True))
    request = request_from_plain({**plain["data"], "options": options, "online": plain["online"]}, workdir)
    inputs = {
        path.name.split("-", 1)[1]: path for path in (done.run / "stages").glob("[0-9][0-9]-*") if (path / "stage.lock").is_file()
    }
    return RunContext(
        stage=done.stage, workdir=workdir, model_dir=done.start, pack=load_pack(plain["domain"]), domain=plain["domain"],
        seed=plain["seed"], request=request, build=plain, inputs=inputs,
    )  # fmt: skip


def _write_sft(done: Finished, config: Any, ctx: RunContext, out: Path) -> list[str]:
    from factory.stages.batches import DataOrder
    from factory.stages.models.load import load
    from factory.stages.sft.lessons import gather_lessons
    from factory.stages.sft.train import encode

    lessons, _ = gather_lessons(config, ctx)
    loaded = load(done.start, precision=done.config["precision"], adapter=config.adapter, seed=ctx.seed, device="cpu")
    _write_start(done, loaded, out)
    learned: list[int] = []
    with (out / "lessons.jsonl").open("w", encoding="utf-8") as rows:
        for number, lesson in enumerate(lessons):
            row = encode(lesson, loaded.codec)
            learned.append(sum(row.loss_mask[1 : config.max_length]))
            pictures = _pictures(lesson.sample.media, out, f"{number:06d}")
            texts = {
                "prompt": [{"role": m.role, "content": m.content} for m in lesson.sample.messages],
                "completion": lesson.response,
            }
            tokens = {"input_ids": row.ids, "completion_mask": row.loss_mask, "pictures": pictures}
            rows.write(json.dumps({"id": lesson.sample.id, **texts, **tokens}, ensure_ascii=False) + "\n")
    recorded = [row for row in read_jsonl(done.folder / "metrics.jsonl") if "loss" in row]
    curve = [{"step": row["step"], "loss": row["loss"]} for row in recorded]
    (out / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
    settings, notes = sft_settings(
        done.run.name, done.stage, config, done.config, is_vl=loaded.modality == "vl", is_adapter=loaded.adapter
    )
    _render("sft.py.jinja", settings, out / "train.py")
    order = DataOrder(len(learned), config.epochs, config.batch_size, ctx.seed)
    tokens = [sum(learned[i] for i in order.indices(step)) for step in range(order.num_steps)]
    if tokens != [row.get("tokens") for row in recorded]:
        notes.append(
            "the lessons are not those that the stage saw (steps have other numbers of tokens): the pack or the data changed since. "
            "The script trains on today's; its losses will differ"
        )
    return notes


def _write_rl(done: Finished, config: Any, ctx: RunContext, out: Path) -> list[str]:
    from factory.stages.models.export import merge
    from factory.stages.rl.prompts import training_prompts

    samples = training_prompts(config, ctx).samples
    if any(sample.media for sample in samples):
        raise ConfigError(
            f"{done.stage}: its prompts have images, for which no rl script is written. Export the prompts instead: "
            "factory data convert, and write the trainer's part by hand."
        )
    merge(done.start, out / "model")
    with (out / "prompts.jsonl").open("w", encoding="utf-8") as rows:
        for sample in samples:
            prompt = [{"role": m.role, "content": m.content} for m in sample.messages]
            rows.write(json.dumps({"prompt": prompt, "sample": json.dumps(sample.to_json())}, ensure_ascii=False) + "\n")
    settings, notes = grpo_settings(done.run.name, done.stage, config, done.config)
    _render("grpo.py.jinja", settings, out / "train.py")
    return notes


def _write_start(done: Finished, loaded: Any, out: Path) -> None:
    """`model/`, and with a trained adapter `adapter/` in its first state."""
    from factory.stages.models.export import merge

    merge(done.start, out / "model")
    if loaded.adapter:
        loaded.model.save_pretrained(str(out / "adapter"), save_embedding_layers=False)
        (out / "adapter" / "README.md").unlink(missing_ok=True)


def _pictures(media: tuple[Media, ...], out: Path, number: str) -> list[str]:
    """The images as files of their own; their names relative to `out`."""
    names = []
    for index, one in enumerate(media):
        (out / "pictures").mkdir(exist_ok=True)
        # The bytes as they are: encoding again would change pixels of a JPEG.
        name = f"pictures/{number}-{index}.img"
        (out / name).write_bytes(one.read())
        names.append(name)
    return names


def _render(template: str, settings: Mapping[str, Any], path: Path) -> None:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("factory.templates").joinpath(f"trl/{template}").read_text(encoding="utf-8")
    path.write_text(environment.from_string(text).render(settings=settings), encoding="utf-8")
