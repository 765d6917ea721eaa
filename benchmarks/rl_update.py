"""RL update on recorded ragged rollouts: our objective and Learner beside TRL's GRPOTrainer, same rollouts, same metrics.

    python benchmarks/rl_update.py [--quick] [--json FILE] [--seed N]

One update = batch of 16 rollouts (8 with the large vocabulary), forward, loss of DAPO with a KL to a reference, backward, clipping,
AdamW. Both sides report entropy, clipped shares and KL. First both compute gradient and metrics of the same weights: the cosine must
be at least 0.9999 and the metrics equal. Then updates in turn, CPU seconds of one thread. Memory: one side per process, peak
resident memory of two updates above what was resident before the first, once in all (with gradients and AdamW's two moments,
which every side must hold) and once without those.

Left out on both sides: generation and scoring; on TRL's the padding of its inputs too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from table import REPEATS, WARM_UPS, Row, alone, compared, cpu_seconds, main, peak_above_base, versions  # noqa: E402

ARMS = {"32k": (32_768, 2), "151k": (151_936, 1)}
"""Vocabulary and groups of eight."""
LEAST_COSINE, METRIC_GAP = 0.9999, 2e-4


def made(vocabulary: int, groups: int, lora: bool, seed: int, folder: Path) -> tuple[Any, list[Any]]:
    """(our loaded model, recorded rows)."""
    import torch
    from rl_sides import Recording, loaded_model, make_base, recorded_rows

    torch.set_num_threads(1)
    loaded = loaded_model(make_base(folder / "base", vocabulary, seed), lora=lora, seed=seed)
    return loaded, recorded_rows(loaded, Recording(groups=groups), seed)


def timed(vocabulary: int, groups: int, lora: bool, seed: int, repeats: int, warm_ups: int) -> dict[str, Any]:
    """CPU seconds of both sides, in turn, after the proof that they compute the same."""
    import torch
    from rl_sides import Ours, Theirs, same_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded, rows = made(vocabulary, groups, lora, seed, folder)
        theirs = Theirs(same_model(loaded), loaded.codec, folder / "trl", len(rows))
        ours, inputs = Ours(loaded, folder), theirs.inputs(rows)
        own, other = ours.step(rows, keep_weights=True), theirs.step(inputs, keep_weights=True)
        cosine = float(torch.nn.functional.cosine_similarity(ours.gradient.double(), theirs.gradient.double(), dim=0))
        if cosine < LEAST_COSINE:
            raise AssertionError(f"the sides compute different gradients: cosine {cosine:.6f}")
        for metric, value in own.items():
            if abs(value - other[metric]) > METRIC_GAP * max(1.0, abs(value)):
                raise AssertionError(f"the sides report different {metric}: ours {value:.6f}, TRL {other[metric]:.6f}")
        sides: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(warm_ups + repeats):
            sides["ours"].append(cpu_seconds(lambda: ours.step(rows)))
            sides["theirs"].append(cpu_seconds(lambda: theirs.step(inputs)))
        return {
            **{side: seconds[warm_ups:] for side, seconds in sides.items()}, "cosine": cosine, "metrics": own,
            "real": sum(len(row.rollout.ids) for row in rows), "padded": int(inputs["prompt_ids"].numel() + inputs["completion_ids"].numel()),
        }  # fmt: skip


def memory(side: str, vocabulary: int, groups: int, lora: bool, seed: int) -> dict[str, int]:
    """Bytes above base of one side: `all` of the first two updates, `step` of a third, when gradients and moments are there."""
    from rl_sides import Ours, Theirs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded, rows = made(vocabulary, groups, lora, seed, folder)
        if side == "ours":
            ours = Ours(loaded, folder)
            step = lambda: ours.step(rows)  # noqa: E731
        else:
            theirs = Theirs(loaded.model, loaded.codec, folder / "trl", len(rows))
            inputs = theirs.inputs(rows)
            step = lambda: theirs.step(inputs)  # noqa: E731
        with peak_above_base() as first:
            step(), step()
        state = sum(p.numel() * 4 for p in loaded.model.parameters() if p.requires_grad) * 3
    return {"all": first.above_base_bytes, "step": max(1, first.above_base_bytes - state)}


def rows(quick: bool, seed: int) -> list[Row]:
    """Time and memory of each vocabulary, all weights and an adapter."""
    repeats, warm_ups = (1, 1) if quick else (REPEATS, WARM_UPS)
    arms = {"32k": (32_768, 1)} if quick else ARMS
    against = f"TRL {versions()['trl']} GRPOTrainer"
    found = []
    for label, (vocabulary, groups) in arms.items():
        for lora in (False, True):
            settings = {"vocabulary": vocabulary, "groups": groups, "lora": lora, "seed": seed}
            name = f"RL update, vocabulary {label}, {'LoRA' if lora else 'all weights'}"
            times = alone("rl_update:timed", {**settings, "repeats": repeats, "warm_ups": warm_ups})
            note = (
                f"gradient cosine {times['cosine']:.7f}; {times['real']} completion tokens, {times['padded']} positions in TRL's batch; "
                + ", ".join(f"{key} {value:.4g}" for key, value in times["metrics"].items())
                + " on both sides"
            )
            found.append(compared(name, against, "ratio <= 0.2", times["ours"], times["theirs"], "CPU s", note))
            own, other = (alone("rl_update:memory", {"side": side, **settings}) for side in ("ours", "theirs"))
            for key, what in (("all", "memory above the model"), ("step", "memory above model, gradients and moments")):
                reach = "ratio <= 0.2" if key == "step" else ""
                found.append(compared(f"{name}: {what}", against, reach, [own[key] / 2**20], [other[key] / 2**20], "MiB"))
    return found


if __name__ == "__main__":
    main(rows, __doc__)
