"""Answers in the required form, for the tests of this folder."""


def form(answer, thinking="so"):
    """An answer with a word of reasoning before it."""
    return f"<think>{thinking}</think><answer>{answer}</answer>"
