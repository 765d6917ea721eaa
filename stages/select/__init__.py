"""Data made by the model itself: roll out, verify, and keep prompts, lessons and preference pairs."""

from factory.stages.select.stage import SelectStage

STAGE = SelectStage()
