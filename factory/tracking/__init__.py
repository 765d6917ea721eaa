"""Experiment trackers beside the run folder, which stays the truth: metrics.jsonl and TensorBoard are always written."""
