"""Test-time deliberation: ways to spend more tokens on one answer, each measured against the plain greedy answer.

`grammar.py` reads `--deliberate`; one file per way (majority, best_of, align3, critic, force_answer) follows `protocol.py`;
`engine.py` samples, `run.py` measures. Only the last two, and models that a judge loads, need torch.
Source: guides/techniques.md B13 and B7.3, extension point E16.
"""
