"""Answering with a built model: an OpenAI-compatible HTTP server, and what `factory chat` shares with it."""
