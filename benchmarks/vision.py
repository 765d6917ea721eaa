"""Vision-language RL update and SFT step: ours beside TRL's trainers, same model, same tokens and pixels.

    python benchmarks/vision.py [--quick] [--json FILE] [--seed N]

The embedded vision-language model (Qwen3-VL build, 1.1 M parameters), images of 64 px. RL: 4 questions x 8 recorded completions of
ragged length (log-normal), whose image both sides are given once per row; ours encodes each distinct image once. SFT: 32 lessons with
an image each, every image different, packed on our side as the `sft` stage does it; once with a tower that learns, and once with a frozen one in later epochs, where ours knows the
features. Both sides get tokens and pixels ready made, because TRL's own path needs a processor that
needs torchvision. First: gradient cosine of at least 0.9999 and equal metrics. CPU seconds of one thread, in turn.
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, cpu_seconds, main, versions  # noqa: E402

GROUPS, GROUP, LESSONS = 4, 8, 32
LEAST_COSINE, METRIC_GAP = 0.9999, 2e-4


def seeing_model(folder: Path, seed: int) -> Any:
    """Our LoadedModel of the embedded vision-language base; its tower learns too."""
    import torch
    import toy_images

    from factory.stages.models.embedded import make_embedded
    from factory.stages.models.load import load

    torch.set_num_threads(1)
    base = make_embedded("embedded-vl", folder / "base", seed=seed, texts=toy_images.texts(), images=toy_images.images())
    return load(base, precision="fp32")


def asked(loaded: Any, count: int) -> list[Any]:
    """Prompts with an image each, all images different."""
    import toy_images

    from factory.contracts import IMAGE, Message

    colours = itertools.islice(itertools.product(toy_images.COLOURS, repeat=4), count)
    return [
        loaded.codec.prompt((Message("user", f"{IMAGE} which colour is top left ?"),), (toy_images.picture(squares),))
        for squares in colours
    ]


def recorded_rows(loaded: Any, seed: int) -> list[Any]:
    """Ragged rollouts of the questions, half of each group right; old log-probs so that some tokens are clipped."""
    import torch

    from factory.stages.models.forward import token_logprobs
    from factory.stages.rl.objective import Row as RlRow
    from factory.stages.rl.objective import make_batch
    from factory.stages.rl.rollouts import Rollout

    rng, rows = random.Random(seed), []
    for place, prompt in enumerate(asked(loaded, GROUPS)):
        for index in range(GROUP):
            length = min(96, max(1, round(rng.lognormvariate(0.0, 0.8) * 24)))
            rollout = Rollout(place, index, [rng.randrange(60, 96) for _ in range(length)], [], True, 0)
            rollout.advantage = 0.935 if index % 2 else -0.935
            rows.append(RlRow(prompt, rollout, sample_id=str(place)))
    rows.sort(key=lambda row: -len(row.rollout.ids))
    with torch.no_grad():
        logp, _ = token_logprobs(loaded.model, make_batch(rows, loaded.codec, None))
    for row, own in zip(rows, logp, strict=True):
        now = own[len(row.prompt.ids) : row.length].tolist()
        row.rollout.logprobs = [one + rng.gauss(0.0, 0.15) for one in now]
        row.rollout.ref_logprobs = [one + rng.gauss(0.0, 0.3) for one in now]
    return rows


def seen(batch: dict[str, Any], rows: list[Any], image_id: int) -> dict[str, Any]:
    """TRL's inputs with what its loss hands to a Qwen-VL model beside the tokens."""
    import torch

    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return {
        **batch, "pixel_values": torch.cat([row.prompt.pixels for row in rows]),
        "image_grid_thw": torch.cat([row.prompt.grid for row in rows]), "num_images": [1] * len(rows),
        "mm_token_type_ids": ((ids == image_id) & (mask == 1)).long(),
    }  # fmt: skip


def unshared(loaded: Any) -> Any:
    """A copy for the other side without our hooks on the tower: as transformers ships it."""
    from rl_sides import same_model

    model = same_model(loaded)
    model.model.visual._forward_pre_hooks.clear()
    model.model.visual._forward_hooks.clear()
    return model


def assert_same(own: Any, other: Any, metrics: dict[str, tuple[float, float]]) -> float:
    """The cosine of two gradients. Raises AssertionError when they or the metrics differ."""
    import torch

    cosine = float(torch.nn.functional.cosine_similarity(own.double(), other.double(), dim=0))
    if cosine < LEAST_COSINE:
        raise AssertionError(f"the sides compute different gradients: cosine {cosine:.6f}")
    for name, (a, b) in metrics.items():
        if abs(a - b) > METRIC_GAP * max(1.0, abs(a)):
            raise AssertionError(f"the sides report different {name}: ours {a:.6f}, TRL {b:.6f}")
    return cosine


def rl_update(seed: int, repeats: int, warm_ups: int) -> dict[str, Any]:
    """CPU seconds of an update of both sides, in turn."""
    from rl_sides import Ours, Theirs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded = seeing_model(folder, seed)
        rows = recorded_rows(loaded, seed)
        theirs = Theirs(unshared(loaded), loaded.codec, folder / "trl", len(rows))
        ours, inputs = Ours(loaded, folder), seen(theirs.inputs(rows), rows, loaded.codec.image_id)
        own, other = ours.step(rows, keep_weights=True), theirs.step(inputs, keep_weights=True)
        cosine = assert_same(ours.gradient, theirs.gradient, {key: (own[key], other[key]) for key in own})
        return {"cosine": cosine, **in_turn(lambda: ours.step(rows), lambda: theirs.step(inputs), repeats, warm_ups)}


def sft_frozen(seed: int, repeats: int, warm_ups: int) -> dict[str, Any]:
    """As `sft_step`, with a frozen tower. The comparison of gradients is the first epoch, the measured steps are later ones."""
    return sft_step(seed, repeats, warm_ups, is_frozen=True)


def sft_step(seed: int, repeats: int, warm_ups: int, *, is_frozen: bool = False) -> dict[str, Any]:
    """CPU seconds of a step on 32 lessons of both sides, in turn."""
    import datasets
    from rl_sides import LR, Ours, flat_gradient
    from trl import SFTConfig, SFTTrainer

    from factory.stages.models.segments import attend_by_segment
    from factory.stages.objectives import TokenNLL
    from factory.stages.packing import collate_packed

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded = seeing_model(folder, seed)
        loaded.model.model.visual.requires_grad_(not is_frozen)
        rng = random.Random(seed)
        lessons = [
            loaded.codec.lengthened(prompt, ids, [1] * len(ids))
            for prompt in asked(loaded, LESSONS)
            if (ids := [rng.randrange(60, 96) for _ in range(rng.randint(4, 40))])
        ]
        args = SFTConfig(
            output_dir=str(folder / "trl"), use_cpu=True, bf16=False, report_to="none", gradient_checkpointing=False, learning_rate=LR,
            weight_decay=0.0, max_grad_norm=1.0, save_strategy="no", per_device_train_batch_size=LESSONS, max_steps=1000, disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            model=unshared(loaded), args=args, processing_class=loaded.codec.tokenizer,
            train_dataset=datasets.Dataset.from_list([{"input_ids": lesson.ids} for lesson in lessons]),
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        trainer.create_optimizer()
        batch = loaded.codec.collate(lessons)
        names = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw")
        inputs = {key: batch[key] for key in names} | {"labels": batch["input_ids"].masked_fill(batch["loss_mask"] == 0, -100)}
        attend_by_segment(loaded.model)
        ours, kept = Ours(loaded, folder), {}

        def our_step(keep: bool = False) -> float:
            def look(norm: float) -> bool:
                kept.update({"ours": flat_gradient(loaded.model)} if keep else {})
                return not keep

            return ours.learner.step([collate_packed([lessons], loaded.codec)], TokenNLL(), allows=look)["loss"]

        def their_step(keep: bool = False) -> float:
            loss = trainer.training_step(trainer.model, dict(inputs), None)
            if keep:
                kept["theirs"] = flat_gradient(trainer.model)
            else:
                trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), 1.0)
                trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            return float(loss)

        losses = our_step(keep=True), their_step(keep=True)
        cosine = assert_same(kept["ours"], kept["theirs"], {"loss": losses})
        return {"cosine": cosine, **in_turn(our_step, their_step, repeats, warm_ups)}


def in_turn(ours: Any, theirs: Any, repeats: int, warm_ups: int) -> dict[str, list[float]]:
    """CPU seconds of each call, the sides in turn."""
    sides: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(warm_ups + repeats):
        sides["ours"].append(cpu_seconds(ours))
        sides["theirs"].append(cpu_seconds(theirs))
    return {side: found[warm_ups:] for side, found in sides.items()}


def rows(quick: bool, seed: int) -> list[Row]:
    """Update and SFT steps."""
    repeats, warm_ups = (1, 1) if quick else (REPEATS, WARM_UPS)
    found = []
    for side, what, trainer in (
        ("rl_update", f"Vision RL update, {GROUPS} x {GROUP}", "GRPOTrainer"), ("sft_step", f"Vision SFT step, {LESSONS} images", "SFTTrainer"),
        ("sft_frozen", f"Vision SFT step, {LESSONS} images, frozen tower, later epochs", "SFTTrainer"),
    ):  # fmt: skip
        times = alone(f"vision:{side}", {"seed": seed, "repeats": repeats, "warm_ups": warm_ups})
        note = f"gradient cosine {times['cosine']:.7f}"
        against = f"TRL {versions()['trl']} {trainer}"
        found.append(compared(what, against, "ratio <= 0.6", times["ours"], times["theirs"], "CPU s", note))
    return found


if __name__ == "__main__":
    main(rows, __doc__)
