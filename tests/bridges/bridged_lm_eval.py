"""A task of lm-eval's own class, importable by pool workers."""

from factory.rewards.bridges.lm_eval import LmEvalTasks


def make():
    """A `ConfigurableTask` over documents made here, with lm-eval's templates and metric."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(30)]
    split = {"train": datasets.Dataset.from_list(rows[:20]), "test": datasets.Dataset.from_list(rows[20:])}
    metric = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
    return ConfigurableTask(config={
        "task": "sums", "custom_dataset": lambda **_: split, "output_type": "generate_until", "training_split": "train", "test_split": "test",
        "doc_to_text": "Q: {{question}}\nA:", "doc_to_target": "{{answer}}", "generation_kwargs": {"until": ["\n"]}, "metric_list": [metric],
    })  # fmt: skip


TASKS = LmEvalTasks({"sums": "bridged_lm_eval:make"}, {"sums": "exact_match"})
VERIFIERS = {"lm_eval": TASKS.verifier()}
