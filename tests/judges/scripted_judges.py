"""Models for a judge's process, without weights."""

import os
import time


class Words:
    """A scalar model: how many words of the reference the completion has, minus 2; some completions are trouble."""

    def __init__(self, settings):
        if "missing" in settings.path:
            raise FileNotFoundError(settings.path)

    def score(self, completion, sample):
        if completion == "hang":
            time.sleep(60)
        if completion == "die":
            os._exit(3)
        if completion == "raise":
            raise RuntimeError("no")
        if completion == "nan":
            return float("nan")
        return float(len(set(completion.split()) & set(str(sample.reference).split()))) - 2.0


class Echo:
    """A generative model that grades `blue` in the fenced answer with 10 and all else with 1."""

    def __init__(self, settings):
        pass

    def complete(self, messages):
        from judge_server import answer_of, mark_of

        prompt = messages[-1].content
        return f"I think so.\nVERDICT {mark_of(prompt)}: {10 if 'blue' in answer_of(prompt) else 1}"
