"""factory: build domain-specialist models with one command."""

__version__ = "0.1.0"
