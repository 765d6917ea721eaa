"""SFT and CPT with ragged texts: real tokens per CPU second of the training loop, against TRL's SFTTrainer with packing and LLaMA-Factory.

    [LLAMAFACTORY_PYTHON=ITS_VENV/bin/python] python benchmarks/sft.py [--quick] [--json FILE] [--seed N]

Same weights, tokens, optimiser settings and number of tokens per step on both sides; TRL gets the tokens ready-made, ours
encodes them in the first (warm-up) epoch. One epoch is one measurement; each side is started twice, in turns, and each time
two epochs warm up and three count. First it is proved that

- the loss of every document in a packed row equals its loss alone, on both sides (nothing leaks between documents);
- TRL's loss of every document equals ours.

TRL also reports entropy and accuracy of the tokens, which we do not compute. It is run as shipped (`packed`, all rows of a step
in one), with one packed row per forward, which suits a CPU better, and unpacked; the ratio is to each of them.

LLaMA-Factory (left out without its variable) makes its tokens itself from the same texts and the same chat template: rows of the
same length, all rows of a step in one forward. Its `pt` lets a document see the one before it in its row, its `neat_packing` does
not. So its loss is only near ours, and is held to NEAR_LOSS.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, main, peak_above_base, versions  # noqa: E402

LENGTH = 1024
"""Tokens of a packed row."""
ROUNDS = 2
"""Times that every side is started, in turns."""
MODES = ("packed", "packed, a row at a time", "padded")
SAME_LOSS = 1e-4
"""Largest difference of a document's loss (nats per token), and of the epochs' means."""
NEAR_LOSS = 0.1
"""The same of the last epoch's mean (nats per token), where the other side makes its own tokens and order."""


def ours(base: str, kind: str, count: int, batch: int, epochs: int, lr: float, seed: int) -> dict[str, Any]:
    """CPU seconds, tokens and mean loss of each epoch of our stage, run as a build runs it."""
    from toy_texts import context

    from factory.config.schema import OptimConfig
    from factory.plugins import load_stage

    stage = load_stage(kind)
    counted = {"cpt": {"documents": count, "pack_length": LENGTH}, "sft": {"lessons": count, "max_length": LENGTH}}[kind]
    optim = OptimConfig(lr=lr, warmup_steps=0, schedule="constant", weight_decay=0.0, clip_norm=1.0, checkpoint_every=0)
    marks, steps = [], []

    def log(**row: Any) -> None:
        marks.append(time.process_time())
        steps.append((row["tokens"], row["loss"] * row["tokens"]))

    with tempfile.TemporaryDirectory() as folder, peak_above_base() as memory:
        config = stage.config_type(epochs=epochs, batch_size=batch, optim=optim, **counted)
        stage.run(config, context(Path(folder), Path(base), count, seed, log))
    return {"epochs": by_epoch(marks, steps, count // batch), "peak": memory.above_base_bytes}


def theirs(
    base: str, rows: list[tuple[list[int], list[int]]], mode: str, steps: int, epochs: int, lr: float, seed: int
) -> dict[str, Any]:
    """The same of TRL's trainer on ready tokens (ids, mask of what is learned), in about as many steps per epoch."""
    from transformers import TrainerCallback

    marks: list[float] = []
    seen: list[tuple[float, float]] = []

    class Meter(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                seen.append((logs["num_tokens"], logs["loss"]))

    with tempfile.TemporaryDirectory() as folder, peak_above_base() as memory:
        trainer = trl_trainer(base, rows, mode, steps, folder, epochs=epochs, lr=lr, seed=seed)
        trainer.add_callback(Meter())
        trainer.train()
    per_epoch = len(marks) // epochs
    learned = sum(sum(mask[1:]) for _, mask in rows)
    # Steps of packed rows differ a little in tokens, so the mean of steps is only near the mean of tokens; the proof uses sums.
    losses = [loss for _, loss in seen]
    mean = [sum(losses[i * per_epoch : (i + 1) * per_epoch]) / per_epoch for i in range(epochs)]
    found = by_epoch(
        marks,
        [(learned / per_epoch, mean[min(i // per_epoch, epochs - 1)] * learned / per_epoch) for i in range(len(marks))],
        per_epoch,
    )
    return {"epochs": found, "peak": memory.above_base_bytes}


def trl_trainer(base: str, rows: Sequence[Any], mode: str, steps: int, folder: str, *, epochs: int, lr: float, seed: int) -> Any:
    """SFTTrainer on ready tokens. `mode`: see MODES."""
    from datasets import Dataset
    from rl_sides import same_model
    from trl import SFTConfig, SFTTrainer

    from factory.stages.models.load import load

    loaded = load(base, precision="fp32")
    total = sum(len(ids) for ids, _ in rows)
    per_step = -(-len(rows) // steps) if mode == "padded" else -(-total // (LENGTH * steps))
    one_by_one = mode == MODES[1]
    args = SFTConfig(
        output_dir=folder, completion_only_loss=True, packing=mode != "padded", max_length=LENGTH, num_train_epochs=epochs, learning_rate=lr,
        per_device_train_batch_size=1 if one_by_one else per_step, gradient_accumulation_steps=per_step if one_by_one else 1,
        lr_scheduler_type="constant", weight_decay=0.0, adam_beta2=0.98, max_grad_norm=1.0, logging_steps=1, save_strategy="no",
        use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False, disable_tqdm=True, seed=seed,
        dataloader_pin_memory=False, train_sampling_strategy="group_by_length" if mode == "padded" else "random",
    )  # fmt: skip
    data = Dataset.from_list([{"input_ids": ids, "completion_mask": mask} for ids, mask in rows])
    return SFTTrainer(model=same_model(loaded), args=args, train_dataset=data, processing_class=loaded.codec.tokenizer)


def llamafactory(
    base: str, kind: str, texts: list[dict[str, str]], steps: int, epochs: int, lr: float, seed: int
) -> dict[str, Any]:
    """The same of LLaMA-Factory, in its own environment: CPU seconds, tokens and mean loss of each epoch; its version."""
    import json
    from importlib.metadata import version

    from llamafactory.train.tuner import run_exp
    from transformers import TrainerCallback

    marks: list[float] = []
    losses: list[float] = []
    tokens: list[int] = []

    class Meter(TrainerCallback):
        def on_train_begin(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
            tokens.append(sum(seen > 0 for row in train_dataloader.dataset for seen in row["attention_mask"]))  # numbers of texts

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(time.process_time())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    columns = {"cpt": {"prompt": "text"}, "sft": {"prompt": "instruction", "response": "output"}}[kind]
    with tempfile.TemporaryDirectory() as folder, peak_above_base() as memory:
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        (Path(folder) / "dataset_info.json").write_text(json.dumps({"texts": {"file_name": "texts.json", "columns": columns}}))
        run_exp(
            {
                "stage": {"cpt": "pt", "sft": "sft"}[kind], "do_train": True, "model_name_or_path": base, "dataset_dir": folder,
                "dataset": "texts", "finetuning_type": "full", "cutoff_len": LENGTH, "packing": True, "neat_packing": kind == "sft",
                "output_dir": f"{folder}/out", "per_device_train_batch_size": rows_per_step(texts, base, steps, drops_rest=kind == "cpt"), "num_train_epochs": epochs,
                "learning_rate": lr, "lr_scheduler_type": "constant", "weight_decay": 0.0, "adam_beta2": 0.98, "max_grad_norm": 1.0,
                "logging_steps": 1, "save_strategy": "no", "report_to": "none", "bf16": False, "fp16": False, "use_cpu": True,
                "disable_gradient_checkpointing": True, "overwrite_cache": True, "preprocessing_num_workers": 1, "disable_tqdm": True,
                "dataloader_num_workers": 0, "dataloader_pin_memory": False, "seed": seed,
            },
            callbacks=[Meter()],
        )  # fmt: skip
    per_epoch = len(marks) // epochs
    steps_seen = [(tokens[0] / per_epoch, loss * tokens[0] / per_epoch) for loss in losses]
    return {
        "epochs": by_epoch(marks, steps_seen, per_epoch), "peak": memory.above_base_bytes, "tokens": tokens[0],
        "version": version("llamafactory"),
    }  # fmt: skip


def rows_per_step(texts: list[dict[str, str]], base: str, steps: int, *, drops_rest: bool) -> int:
    """Packed rows that make about as many steps an epoch as the other sides take. `drops_rest`: what does not fill a row is left out."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    total = sum(len(tokenizer(" ".join(text.values())).input_ids) for text in texts)
    num_rows = max(1, total // LENGTH if drops_rest else -(-total // LENGTH))
    return -(-num_rows // steps)


def by_epoch(marks: Sequence[float], steps: Sequence[tuple[float, float]], per_epoch: int) -> list[dict[str, float]]:
    """CPU seconds, tokens and mean loss of each epoch but the first, whose begin was not seen."""
    found = []
    for start in range(per_epoch, len(marks), per_epoch):
        part = steps[start : start + per_epoch]
        tokens = sum(tokens for tokens, _ in part)
        found.append(
            {
                "cpu_s": marks[start + per_epoch - 1] - marks[start - 1],
                "tokens": tokens,
                "loss": sum(loss for _, loss in part) / tokens,
            }
        )
    return found


def losses_alone_and_packed_ours(base: str, kind: str, count: int, seed: int) -> tuple[list[float], list[float]]:
    """Mean loss of each document when it is alone and when all are packed, by our forward."""
    import torch

    from factory.stages.models.forward import token_logprobs
    from factory.stages.models.load import load
    from factory.stages.models.segments import attend_by_segment
    from factory.stages.packing import collate_packed

    loaded = load(base, precision="fp32")
    attend_by_segment(loaded.model)
    rows = encoded(loaded.codec, kind, count, seed)

    def means(part: Sequence[Any]) -> list[float]:
        batch = collate_packed([part], loaded.codec)
        with torch.no_grad():
            logp = token_logprobs(loaded.model, batch)[0][0]
        pieces = zip(logp.split([len(row.ids) for row in part]), part, strict=True)
        return [-float(piece.sum()) / sum(row.loss_mask[1:]) for piece, row in pieces]

    return [means([row])[0] for row in rows], means(rows)


def losses_packed_theirs(base: str, rows: list[tuple[list[int], list[int]]], seed: int) -> list[float]:
    """Mean loss of each document in TRL's packed batches, in the order of `rows`, through its own collator and loss."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        trainer = trl_trainer(base, rows, MODES[1], 1, folder, epochs=1, lr=0.0, seed=seed)
        found: dict[tuple[int, ...], float] = {}
        for batch in trainer.get_train_dataloader():
            with torch.no_grad():
                outputs = trainer.model(**{**batch, "use_cache": False}, fused_lm_head=True)
            ends = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist()[1:], batch["input_ids"].shape[1]]
            for start, end in zip([0, *ends[:-1]], ends, strict=True):
                mask = batch["labels"][0, start:end] != -100
                # TRL's log-probabilities stand at the token that predicts, or at the predicted one; sums do not mind.
                total = -float(outputs.log_probs[0, start:end].sum())
                found[tuple(batch["input_ids"][0, start:end].tolist())] = total / int(mask.sum())
    return [found[tuple(ids)] for ids, _ in rows]


def encoded(codec: Any, kind: str, count: int, seed: int) -> list[Any]:
    """The rows of a kind of training, as the stage encodes them."""
    import toy_texts

    if kind == "cpt":
        return [codec.document(document.text) for document in toy_texts.documents(count, seed)]
    return [codec.lesson(lesson.sample.messages, lesson.response) for lesson in toy_texts.lessons(count, seed)]


def prepared(base: str, kind: str, count: int, seed: int, *, vocabulary: int, hidden: int, layers: int) -> dict[str, Any]:
    """Write the base, and say which tokens both sides train on."""
    from toy_texts import make_base

    from factory.stages.models.load import load

    if not Path(base).is_dir():
        make_base(Path(base), vocabulary=vocabulary, hidden=hidden, layers=layers, seed=seed)
    codec = load(base, precision="fp32").codec
    return {"rows": [(row.ids, row.loss_mask) for row in encoded(codec, kind, count, seed)], "texts": written(kind, count, seed)}


def written(kind: str, count: int, seed: int) -> list[dict[str, str]]:
    """The texts of the rows, for a side that makes its own tokens."""
    import toy_texts

    if kind == "cpt":
        return [{"text": document.text} for document in toy_texts.documents(count, seed)]
    lessons = toy_texts.lessons(count, seed)
    return [{"instruction": lesson.sample.messages[-1].content, "output": lesson.response} for lesson in lessons]


def proof(base: str, kind: str, rows: list[tuple[list[int], list[int]]], count: int, seed: int) -> dict[str, float]:
    """Largest difference of a document's loss: packed against alone on our side, and TRL's packed against ours alone."""
    alone_ours, packed_ours = losses_alone_and_packed_ours(base, kind, count, seed)
    packed_theirs = losses_packed_theirs(base, rows, seed)
    return {
        "ours": max(abs(a - b) for a, b in zip(alone_ours, packed_ours, strict=True)),
        "theirs": max(abs(a - b) for a, b in zip(alone_ours, packed_theirs, strict=True)),
    }


def rows(quick: bool, seed: int) -> list[Row]:
    """CPT and SFT at a small and a large vocabulary, against each mode of TRL."""
    count, batch, repeats = (16, 8, 1) if quick else (48, 16, REPEATS)
    shape = {"hidden": 64, "layers": 1} if quick else {"hidden": 256, "layers": 4}
    found: list[Row] = []
    for vocabulary in (1024,) if quick else (1024, 32768):
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("cpt",) if quick else ("cpt", "sft"):
                base = str(Path(folder) / "base")
                common = {"base": base, "kind": kind, "count": count, "seed": seed}
                tokens = alone("sft:prepared", {**common, "vocabulary": vocabulary, **shape})
                found += side_by_side(common, tokens, batch, repeats, vocabulary, MODES[1:2] if quick else MODES)
    return found


def side_by_side(
    common: dict[str, Any], prepared: dict[str, Any], batch: int, repeats: int, vocabulary: int, modes: Sequence[str]
) -> list[Row]:
    """Prove, then time one kind of training."""
    tokens = prepared["rows"]
    shown = alone("sft:proof", {**common, "rows": tokens})
    if max(shown.values()) > SAME_LOSS:
        raise SystemExit(f"a document's loss changes when it is packed: {shown}; nothing is compared")
    counted = -(-repeats // ROUNDS)
    # One epoch more: the begin of the first is not seen.
    epochs = 1 + (WARM_UPS - 1 if repeats > 1 else 0) + counted
    settings = {"base": common["base"], "seed": common["seed"], "steps": common["count"] // batch, "epochs": epochs, "lr": 1e-4}
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: alone("sft:ours", {**common, "batch": batch, "epochs": epochs, "lr": 1e-4}),
        **{
            f"TRL {versions()['trl']} SFTTrainer, {mode}": partial(
                alone, "sft:theirs", {**settings, "rows": tokens, "mode": mode}
            )
            for mode in modes
        },
    }
    python = os.environ.get("LLAMAFACTORY_PYTHON")
    if python:
        given = {**settings, "kind": common["kind"], "texts": prepared["texts"]}
        sides["LLaMA-Factory"] = partial(alone, "sft:llamafactory", given, python=python, DISABLE_VERSION_CHECK="1")
    others = in_turns(sides, counted)
    own = others.pop("ours")
    if python:
        gap = abs(others["LLaMA-Factory"]["epochs"][-1]["loss"] - own["epochs"][-1]["loss"])
        if gap > NEAR_LOSS:
            raise SystemExit(f"LLaMA-Factory's last epoch has a loss {gap:.3f} nats from ours: nothing is compared")
    own["tokens"] = sum(len(ids) for ids, _ in tokens)
    return [_row(f"{common['kind']}, vocabulary {vocabulary}", name, own, other, shown) for name, other in others.items()]


def in_turns(sides: Mapping[str, Callable[[], Any]], counted: int) -> dict[str, Any]:
    """What each side says of its last round, with the `counted` last epochs of all ROUNDS: a machine's speed drifts within minutes."""
    rounds = [{name: measure() for name, measure in sides.items()} for _ in range(ROUNDS)]
    return {name: rounds[-1][name] | {"epochs": [e for one in rounds for e in one[name]["epochs"][-counted:]]} for name in sides}


def _row(what: str, name: str, own: Any, other: Any, shown: Mapping[str, float]) -> Row:
    """The rates of the counted epochs. A side that makes its own tokens says how many."""
    other.setdefault("tokens", own["tokens"])
    name = f"{name} {other['version']}" if "version" in other else name
    rates = [[side["tokens"] / epoch["cpu_s"] for epoch in side["epochs"]] for side in (own, other)]
    proved = (
        f"a document's loss packed and alone differs by at most {shown['ours']:.1e} (ours), {shown['theirs']:.1e} (TRL)"
        if name.startswith("TRL")
        else f"{other['tokens']} tokens of its own making"
    )
    return compared(
        what, name, "ratio >= 1.2", *rates, "tokens/CPU-s",
        f"{own['tokens']} tokens an epoch; {proved}; last epoch's mean loss {own['epochs'][-1]['loss']:.4f} and "
        f"{other['epochs'][-1]['loss']:.4f}; peak above base {own['peak'] / 2**20:.0f} and {other['peak'] / 2**20:.0f} MiB",
    )  # fmt: skip


if __name__ == "__main__":
    main(rows, __doc__)
