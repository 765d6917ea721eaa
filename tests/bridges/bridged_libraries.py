"""Faithful small stand-ins for libraries that are not installed here: the same methods, names and manners."""

import random
from types import SimpleNamespace


class Parity:
    """A bootcamp as InternBootcamp writes them: `verify_score` swallows every exception."""

    def case_generator(self):
        return {"number": random.randint(0, 99)}

    @staticmethod
    def prompt_func(identity):
        return f"Is {identity['number']} even or odd? Answer as [even] or [odd]."

    @staticmethod
    def extract_output(output):
        found = [word for word in ("even", "odd") if f"[{word}]" in output]
        return found[0] if len(found) == 1 else None

    @classmethod
    def _verify_correction(cls, solution, identity):
        if identity.get("broken"):
            raise KeyError("a bug of the library")
        return solution == ("odd" if identity["number"] % 2 else "even")

    @classmethod
    def verify_score(cls, model_output, identity, format_score=0):
        score = 0.0
        try:
            solution = cls.extract_output(model_output)
            if solution is None:
                return score
            score = format_score
            if cls._verify_correction(solution, identity):
                score = 1.0
        except Exception:
            pass
        return score


class OnlyThree:
    """A bootcamp with the three methods alone."""

    def case_generator(self):
        return {"n": random.randint(1, 5)}

    def prompt_func(self, identity):
        return f"Say {identity['n']}."

    def verify_score(self, model_output, identity):
        return float(model_output.strip() == str(identity["n"]))


# --- verifiers up to 0.1 --------------------------------------------------------------------------------------------------


def exact(completion, answer, **kwargs):
    return 1.0 if completion[-1]["content"].strip() == answer else 0.0


async def short(completion, parser):
    return 1.0 if len(parser.parse(completion[-1]["content"])) < 10 else 0.0


def load_environment():
    """A single-turn environment."""
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i), "info": {"level": i % 3}} for i in range(40)]
    rubric = SimpleNamespace(funcs=[exact, short], weights=[1.0, 0.25], parser=SimpleNamespace(parse=str.strip))
    return SimpleNamespace(dataset=rows, rubric=rubric)


def load_penalised():
    env = load_environment()
    env.rubric.weights = [1.0, -0.5]
    return env


def two(completion):
    return 2.0


def load_out_of_range():
    env = load_environment()
    env.rubric.funcs, env.rubric.weights = [two], [1.0]
    return env


# --- lm-eval --------------------------------------------------------------------------------------------------------------


class Capitals:
    """A generating lm-eval task with train and test documents."""

    OUTPUT_TYPE = "generate_until"
    ROWS = (("France", "Paris"), ("Japan", "Tokyo"), ("Peru", "Lima"))

    def has_training_docs(self):
        return True

    def has_validation_docs(self):
        return False

    def has_test_docs(self):
        return True

    def training_docs(self):
        return [{"country": c, "capital": a} for c, a in self.ROWS[:2]]

    def test_docs(self):
        return [{"country": c, "capital": a} for c, a in self.ROWS[2:]]

    def doc_to_text(self, doc):
        return f"The capital of {doc['country']} is"

    def doc_to_target(self, doc):
        return doc["capital"]

    def process_results(self, doc, results):
        return {"exact_match": float(results[0].strip() == doc["capital"]), "length": len(results[0])}


class OneSplit(Capitals):
    """A benchmark with a test split alone."""

    def has_training_docs(self):
        return False

    def test_docs(self):
        return [{"country": f"land {i}", "capital": f"town {i}"} for i in range(100)]


class Choice(Capitals):
    OUTPUT_TYPE = "multiple_choice"


# --- TRL reward functions -------------------------------------------------------------------------------------------------


def accuracy(completions, solution, **kwargs):
    return [float(one[0]["content"] == gold) for one, gold in zip(completions, solution, strict=True)]


def signed(prompts, completions, **kwargs):
    return [1.0 if "blue" in text else -1.0 for text in completions]


def only_maths(completions, kind, **kwargs):
    return [1.0 if one == "maths" else None for one in kind]


def wrong_count(completions, **kwargs):
    return [1.0, 1.0]


def not_numbers(completions, **kwargs):
    return [float("nan")]
