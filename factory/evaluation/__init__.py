"""Measuring any model: over an OpenAI-compatible address, several attempts per question, by other harnesses, and in their shapes."""
