"""Continued pretraining: the domain's documents (text, or images with text) as plain next-token prediction."""

from factory.stages.cpt.stage import CptStage

STAGE = CptStage()
