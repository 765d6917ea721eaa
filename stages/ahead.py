"""What the steps of a build import, loaded once before their workers are forked from the process that did it (factory.launch.forks)."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress

MODULES = (
    "torch", "torch._dynamo", "accelerate", "peft", "transformers.generation.utils", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto", "transformers.models.qwen3.modeling_qwen3",
    "transformers.models.qwen3_vl.modeling_qwen3_vl", "factory.stages.models.load", "factory.stages.eval.measure",
    "factory.stages.cpt.train", "factory.stages.sft.train", "factory.stages.rl.assemble",
)  # fmt: skip
"""Slow to import, needed by almost every step, and without threads or a GPU context of their own once they are loaded."""


def load() -> None:
    """Import them all, with what transformers and accelerate would load or make in every step that loads or saves a model."""
    for name in MODULES:
        importlib.import_module(name)
    if importlib.util.find_spec("deepspeed"):
        importlib.import_module("deepspeed")  # accelerate looks into it when a model is saved
    with suppress(ImportError):  # a table of transformers 5 that takes a second to make; others have none
        from transformers.conversion_mapping import get_checkpoint_conversion_mapping

        get_checkpoint_conversion_mapping("qwen3")
