"""The four puzzles: right answers of every kind are paid, and nothing that only looks like one."""

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Status
from factory.rewards.bridges.bootcamp import Bootcamps
from factory.rewards.bridges.puzzles import CAMPS, Binairo, Cryptomath, Game24, Sudoku, last_grid

SUDOKU = {"puzzle": [[0, 1, 4, 3], [3, 4, 1, 0], [4, 2, 3, 0], [1, 3, 0, 4]], "size": 4, "region_rows": 2, "region_cols": 2}
SOLVED = "2 1 4 3\n3 4 1 2\n4 2 3 1\n1 3 2 4"


def boxed_grid(text):
    return f"so\n[answer]\n{text}\n[/answer]"


@pytest.mark.parametrize("text, score", [
    (SOLVED, 1), (SOLVED.replace("2 1 4 3", "1 2 4 3"), 0), (SOLVED.replace(" ", ","), 1), ("2 1 4 3", 0), ("", 0),
    # A valid grid that is not of this puzzle.
    ("1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1", 0), (SOLVED + "\n" + SOLVED, 0),
])  # fmt: skip
def test_sudoku(text, score):
    assert Sudoku.verify_score(boxed_grid(text), SUDOKU) == score


def test_the_last_answer_block_counts_and_none_is_unparsable():
    assert Sudoku.verify_score(boxed_grid(SOLVED) + boxed_grid("1"), SUDOKU) == 0
    assert Sudoku.extract_output("2 1 4 3") is None and last_grid(boxed_grid("1 x\n2 3"), 2) is None


BINAIRO = {"puzzle": [[None, 1, None, None], [1, None, None, 0], [None] * 4, [None] * 4]}


@pytest.mark.parametrize("grid, score", [
    ("0 1 0 1\n1 0 1 0\n0 1 1 0\n1 0 0 1", 1),
    ("0 1 0 1\n1 0 1 0\n0 1 0 1\n1 0 1 0", 0),  # rows alike
    ("0 1 1 0\n1 0 1 0\n1 0 0 1\n0 1 0 1", 1),
    ("1 0 0 1\n1 0 1 0\n0 1 1 0\n0 1 0 1", 0),  # not the given cell
    ("0 1 1 1\n1 0 0 0\n0 1 1 0\n1 0 0 1", 0),  # three alike
])  # fmt: skip
def test_binairo(grid, score):
    assert Binairo.verify_score(boxed_grid(grid), BINAIRO) == score


@pytest.mark.parametrize("text, score", [
    ("(1+3)*(4+2)", 1), ("1+3+4+2", 0), ("24", 0), ("1*3*4*2", 1), ("1*3*4*2=24", 1), ("(4-1)*(3-2)*8", 0), ("1 \\times 3 × 4 * 2", 1),
    ("2**4+8", 0), ("__import__('os').system('x')", 0), ("3*4*2/1", 1), ("3*4*2*1*1", 0), ("((((", 0), ("1/0*2*3*4", 0), ("3*8", 0),
    ("-1*-3*4*2", 1), ("(" * 5000 + "24", 0),
])  # fmt: skip
def test_game24(text, score):
    case = {"puzzle": "1 3 4 2", "target": 24}
    assert Game24.verify_score(f"\\boxed{{{text}}}", case) == score


def test_game24_is_exact():
    # 8 / (3 - 8/3) = 24 in fractions; in floats it is 23.999...
    assert Game24.verify_score("\\boxed{8/(3-8/3)}", {"puzzle": "8 3 8 3", "target": 24}) == 1


CRYPTO = {"left_terms": ["AB", "B"], "right_term": "AC", "leading_letters": ["A", "B"], "all_letters": ["A", "B", "C"]}


@pytest.mark.parametrize("text, score", [
    ("A=1,B=2,C=4", 1), ("B=2, C=4, A=9", 1), ("A=1，B=2，C=4", 1), ("A=1,B=2", 0), ("A=1,B=2,C=5", 0), ("A=0,B=2,C=4", 0), ("A=1,B=1,C=2", 0),
    ("A=1,B=2,C=4,D=5", 0), ("A=1,B=2,C=4,C=4", 0), ("A=12,B=2,C=4", 0), ("", 0), ("a=1,b=2,c=4", 1),
])  # fmt: skip
def test_cryptomath(text, score):
    assert Cryptomath.verify_score(f"[[{text}]]", CRYPTO) == score


@pytest.mark.parametrize("camp", [Sudoku, Binairo, Game24, Cryptomath])
@given(text=st.text(max_size=120))
def test_any_text_is_judged(camp, text):
    cases = {Sudoku: SUDOKU, Binairo: BINAIRO, Game24: {"puzzle": "1 2 3", "target": 6}, Cryptomath: CRYPTO}
    wrapped = {Game24: f"\\boxed{{{text}}}", Cryptomath: f"[[{text}]]"}.get(camp, boxed_grid(text))
    assert camp.verify_score(wrapped, cases[camp]) in (0.0, 1.0)


def solve(camp, case):
    """A right answer by brute force: the other way round than the checker works."""
    if camp is Game24:
        numbers = case["puzzle"].split()
        for order in itertools.permutations(numbers):
            for ops in itertools.product("+-*/", repeat=len(numbers) - 1):
                flat = "".join(itertools.chain(*itertools.zip_longest(order, ops, fillvalue="")))
                for text in (flat, f"({order[0]}{ops[0]}{order[1]}){ops[1]}{order[2]}"):
                    if camp.verify_score(f"\\boxed{{{text}}}", case):
                        return f"\\boxed{{{text}}}"
    if camp is Cryptomath:
        letters = case["all_letters"]
        for digits in itertools.permutations(range(10), len(letters)):
            text = "[[" + ",".join(f"{a}={d}" for a, d in zip(letters, digits, strict=True)) + "]]"
            if camp.verify_score(text, case):
                return text
    return None


@pytest.mark.parametrize("camp", [Game24, Cryptomath])
def test_generated_cases_have_a_solution(camp):
    random.seed(1)
    for _ in range(2):
        case = camp().case_generator()
        assert solve(camp, case) is not None, case


def test_generated_grids_have_a_solution():
    random.seed(1)
    case = Sudoku().case_generator()
    assert sum(cell == 0 for row in case["puzzle"] for cell in row) == 6
    rows = [
        [p for p in itertools.permutations(range(1, 5)) if all(g in (0, c) for g, c in zip(row, p, strict=True))]
        for row in case["puzzle"]
    ]
    grids = ["\n".join(" ".join(map(str, row)) for row in grid) for grid in itertools.product(*rows)]
    assert any(Sudoku.verify_score(boxed_grid(grid), case) for grid in grids)
    assert json.loads(json.dumps(Binairo().case_generator()))["puzzle"]


SHARED = Path(__file__).parents[2] / "shared" / "data" / "general" / "internbootcamp"
SHARED = SHARED if SHARED.is_dir() else Path(__file__).parents[3] / "shared" / "data" / "general" / "internbootcamp"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not beside the repository")
def test_the_published_eval_files_are_bridged_as_they_are():
    camps = Bootcamps(CAMPS, files=tuple(str(path) for path in sorted(SHARED.glob("*.jsonl"))))
    verifier, count = camps.verifier(), 0
    for task in camps.tasks():
        for split in ("train", "validation", "test"):
            for sample in camps.samples(task, split, 0):
                count += 1
                identity = sample.meta["bridge"]["identity"]
                if task == "bootcamp/binairo":
                    grid = "\n".join(" ".join(map(str, row)) for row in identity["solution"])
                    assert verifier(boxed_grid(grid), sample).status is Status.ok
                # Handing the puzzle back, or nothing at all, is never paid.
                assert verifier(sample.text(), sample).score == 0 and verifier("", sample).score == 0
    # 4 files of 64 rows; prompts that occur twice count once.
    assert 240 <= count <= 256
