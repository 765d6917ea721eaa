"""Bridges: whole libraries of verifiable tasks become samples and a verifier, as they are. See docs/bridges.md.

Each library is imported inside the functions that need it, so importing a bridge costs nothing and asks for nothing.
"""
