"""Judges and reward models: models that score completions, local first, always behind a rule. See docs/judges.md.

A judge is asked only where a rule of the task gave more than 0, never weighs more than its cap, and is not used at all
before it agreed with people on a labelled set. What it is shown is data; what it says is read strictly, or not at all.
"""
