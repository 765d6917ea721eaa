"""Four puzzles in the three-method interface: the bootcamps of the eval files that InternBootcamp publishes.

Written from the rules that the files' prompts state; no code of the library. An answer is checked against the rules
and never against one stored solution, because most of these puzzles have several. No answer is ever executed.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections import Counter
from fractions import Fraction
from typing import Any

_ANSWER = re.compile(r"\[answer\](.*?)\[/answer\]", re.IGNORECASE | re.DOTALL)
_MAX_EXPRESSION = 200


def last_grid(text: str, size: int) -> list[list[int]] | None:
    """The last `[answer]` block as size x size whole numbers, or None."""
    blocks = _ANSWER.findall(text)
    if not blocks:
        return None
    rows = [re.split(r"[\s,]+", line.strip()) for line in blocks[-1].strip().splitlines() if line.strip()]
    if len(rows) != size or any(len(row) != size for row in rows):
        return None
    if not all(re.fullmatch(r"[0-9]{1,3}", cell) for row in rows for cell in row):
        return None
    return [[int(cell) for cell in row] for row in rows]


class Sudoku:
    """size x size; every row, column and region holds 1..size; 0 is empty."""

    def case_generator(self) -> dict[str, Any]:
        """A 4 x 4 puzzle with 6 empty cells."""
        digits = random.sample(range(1, 5), 4)
        rows = [[digits[(2 * (r % 2) + r // 2 + c) % 4] for c in range(4)] for r in range(4)]
        for r, c in random.sample(list(itertools.product(range(4), range(4))), 6):
            rows[r][c] = 0
        return {"puzzle": rows, "size": 4, "region_rows": 2, "region_cols": 2}

    @staticmethod
    def prompt_func(case: dict[str, Any]) -> str:
        """The question."""
        grid = "\n".join(" ".join(str(cell or "_") for cell in row) for row in case["puzzle"])
        size, high, wide = case["size"], case["region_rows"], case["region_cols"]
        return (
            f"Solve this {size}x{size} sudoku: every row, column and {high}x{wide} region holds 1 to {size}. _ is empty.\n{grid}\n"
            "Write the full grid between [answer] and [/answer], one row per line."
        )

    @staticmethod
    def extract_output(output: str) -> str | None:
        """The last answer block's text; its size is checked against the case."""
        return output if _ANSWER.search(output) else None

    @classmethod
    def _verify_correction(cls, solution: str, case: dict[str, Any]) -> bool:
        size, high, wide = case["size"], case["region_rows"], case["region_cols"]
        grid = last_grid(solution, size)
        if grid is None or any(given and given != got for row, own in zip(case["puzzle"], grid, strict=True)
                               for given, got in zip(row, own, strict=True)):  # fmt: skip
            return False
        want = set(range(1, size + 1))
        regions = [
            {grid[r + dr][c + dc] for dr in range(high) for dc in range(wide)}
            for r in range(0, size, high) for c in range(0, size, wide)
        ]  # fmt: skip
        return all(set(part) == want for part in (*grid, *zip(*grid, strict=True), *regions))

    @classmethod
    def verify_score(cls, output: str, case: dict[str, Any]) -> float:
        """1 when the last answer block solves the puzzle."""
        return float(cls.extract_output(output) is not None and cls._verify_correction(output, case))


class Binairo:
    """0 and 1; as many of each in every line, no three alike in a row, all rows differ and all columns differ."""

    def case_generator(self) -> dict[str, Any]:
        """A 4 x 4 puzzle with half its cells given."""
        solution = random.choice(_binairo_grids())
        shown = set(random.sample(range(16), 8))
        return {"puzzle": [[solution[r][c] if 4 * r + c in shown else None for c in range(4)] for r in range(4)]}

    @staticmethod
    def prompt_func(case: dict[str, Any]) -> str:
        """The question."""
        grid = "\n".join(" ".join("_" if cell is None else str(cell) for cell in row) for row in case["puzzle"])
        return (
            f"Solve this binairo: as many 0s as 1s in every row and column, no three alike in a row, no two rows or columns alike."
            f"\n{grid}\nWrite the full grid between [answer] and [/answer], one row per line."
        )

    extract_output = staticmethod(Sudoku.extract_output)

    @staticmethod
    def _verify_correction(solution: str, case: dict[str, Any]) -> bool:
        puzzle = case["puzzle"]
        grid = last_grid(solution, len(puzzle))
        if grid is None or any(given is not None and given != got for row, own in zip(puzzle, grid, strict=True)
                               for given, got in zip(row, own, strict=True)):  # fmt: skip
            return False
        return _is_binairo(grid)

    @classmethod
    def verify_score(cls, output: str, case: dict[str, Any]) -> float:
        """1 when the last answer block solves the puzzle."""
        return float(cls.extract_output(output) is not None and cls._verify_correction(output, case))


def _is_binairo(grid: list[list[int]]) -> bool:
    columns = [list(column) for column in zip(*grid, strict=True)]
    half = len(grid) // 2
    for lines in (grid, columns):
        if len({tuple(line) for line in lines}) != len(lines):
            return False
        for line in lines:
            if sorted(line) != [0] * half + [1] * half or any(len(set(line[i : i + 3])) == 1 for i in range(len(line) - 2)):
                return False
    return True


def _binairo_grids() -> list[list[list[int]]]:
    lines = [list(line) for line in itertools.product((0, 1), repeat=4) if sum(line) == 2]
    grids = ([list(row) for row in rows] for rows in itertools.permutations(lines, 4))
    return [grid for grid in grids if _is_binairo(grid)]


class Game24:
    """Use each given number once with + - * / and parentheses to reach the target."""

    def case_generator(self) -> dict[str, Any]:
        """Three small numbers whose sum or product chain is the target, so that it can be reached."""
        a, b, c = (random.randint(1, 9) for _ in range(3))
        return {"puzzle": f"{a} {b} {c}", "target": random.choice([a + b + c, a * b + c, (a + b) * c, a * b - c])}

    @staticmethod
    def prompt_func(case: dict[str, Any]) -> str:
        """The question."""
        return (
            f"Use the numbers {case['puzzle']}, each exactly once, with + - * / and parentheses to make {case['target']}. "
            "Write the expression in \\boxed{}."
        )

    @staticmethod
    def extract_output(output: str) -> str | None:
        """The last `\\boxed{}`, without nesting."""
        found = re.findall(r"\\boxed\{([^{}]*)\}", output)
        return found[-1] if found else None

    @classmethod
    def _verify_correction(cls, solution: str, case: dict[str, Any]) -> bool:
        text = solution.split("=")[0].replace("\\times", "*").replace("×", "*").replace("\\div", "/").replace("÷", "/").strip()
        found = _evaluate(text)
        if found is None:
            return False
        value, used = found
        return value == case["target"] and Counter(used) == Counter(int(part) for part in case["puzzle"].split())

    @classmethod
    def verify_score(cls, output: str, case: dict[str, Any]) -> float:
        """1 when the boxed expression uses the numbers and reaches the target."""
        found = cls.extract_output(output)
        return float(found is not None and cls._verify_correction(found, case))


def _evaluate(text: str) -> tuple[Fraction, list[int]] | None:
    """(exact value, numbers used) of an arithmetic expression, or None. Walks the syntax tree; nothing is executed."""
    if len(text) > _MAX_EXPRESSION or not re.fullmatch(r"[0-9+\-*/() \t]+", text) or "**" in text or "//" in text:
        return None
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> tuple[Fraction, list[int]]:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value), [node.value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value, used = _value(node.operand)
        return -value, used
    if isinstance(node, ast.BinOp):
        (left, first), (right, second) = _value(node.left), _value(node.right)
        apply = {ast.Add: Fraction.__add__, ast.Sub: Fraction.__sub__, ast.Mult: Fraction.__mul__, ast.Div: Fraction.__truediv__}
        return apply[type(node.op)](left, right), first + second
    raise ValueError(f"{type(node).__name__} is no arithmetic")


class Cryptomath:
    """Letters stand for different digits; no number starts with 0; the sum must hold."""

    def case_generator(self) -> dict[str, Any]:
        """A sum of two two-digit numbers."""
        a, b = random.randint(10, 99), random.randint(10, 99)
        digits = sorted(set(f"{a}{b}{a + b}"))
        letters = dict(zip(digits, random.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", len(digits)), strict=True))
        left, right = ["".join(letters[d] for d in str(n)) for n in (a, b)], "".join(letters[d] for d in str(a + b))
        return {
            "left_terms": left, "right_term": right, "leading_letters": sorted({word[0] for word in (*left, right)}),
            "all_letters": sorted(set(letters.values())),
        }  # fmt: skip

    @staticmethod
    def prompt_func(case: dict[str, Any]) -> str:
        """The question."""
        return (
            "Each letter stands for a different digit, and no number starts with 0. Find the digits.\n"
            f"{'+'.join(case['left_terms'])}={case['right_term']}\nAnswer as [[A=1,B=2,...]]."
        )

    @staticmethod
    def extract_output(output: str) -> str | None:
        """The last `[[...]]`."""
        found = re.findall(r"\[\[([^\[\]]*)\]\]", output)
        return found[-1] if found else None

    @classmethod
    def _verify_correction(cls, solution: str, case: dict[str, Any]) -> bool:
        pairs = [re.fullmatch(r"\s*([A-Za-z])\s*=\s*([0-9])\s*", part) for part in re.split(r"[,，]", solution)]
        if not all(pairs):
            return False
        digits = {pair.group(1).upper(): int(pair.group(2)) for pair in pairs if pair}
        if len(digits) != len(pairs) or set(digits) != set(case["all_letters"]) or len(set(digits.values())) != len(digits):
            return False
        if any(digits[letter] == 0 for letter in case["leading_letters"]):
            return False
        number = {
            word: int("".join(str(digits[letter]) for letter in word)) for word in (*case["left_terms"], case["right_term"])
        }
        return sum(number[word] for word in case["left_terms"]) == number[case["right_term"]]

    @classmethod
    def verify_score(cls, output: str, case: dict[str, Any]) -> float:
        """1 when the last `[[...]]` is a full, correct assignment."""
        found = cls.extract_output(output)
        return float(found is not None and cls._verify_correction(found, case))


CAMPS = {name: f"factory.rewards.bridges.puzzles:{name.capitalize()}" for name in ("sudoku", "binairo", "game24", "cryptomath")}
"""For `Bootcamps(CAMPS)`, alone or with the files of InternBootcamp's `examples/data/InternBootcamp_eval`."""
