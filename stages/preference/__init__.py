"""Preference training: make the preferred response of each pair more likely than the other, relative to where the stage began."""

from factory.stages.preference.stage import PreferenceStage

STAGE = PreferenceStage()
