"""Difficulty steps of the four puzzles: `Bootcamps(CAMPS | ladder())` has over 1,000 tasks and needs no other library.

Each class makes cases of one difficulty, keeps the solution it started from (for lessons), and leaves prompt, extraction
and check to the puzzle itself: what is checked are the rules, never the kept solution.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

from factory.errors import ConfigError
from factory.rewards.bridges.puzzles import Binairo, Cryptomath, Game24, Sudoku

REGIONS = {4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Size of a sudoku -> rows and columns of a region."""
OPERATORS = ("+", "+-", "*", "+*", "+-*")


def _answer_block(rows: list[list[int]]) -> str:
    return "[answer]\n" + "\n".join(" ".join(map(str, row)) for row in rows) + "\n[/answer]"


@dataclass(frozen=True)
class SudokuStep:
    """Sudokus of one size with `holes` empty cells. Raises ConfigError for a size that has no regions."""

    size: int = 4
    holes: int = 6

    prompt_func = staticmethod(Sudoku.prompt_func)
    extract_output = staticmethod(Sudoku.extract_output)
    _verify_correction = staticmethod(Sudoku._verify_correction)

    def __post_init__(self) -> None:
        if self.size not in REGIONS or not 0 < self.holes < self.size**2:
            raise ConfigError(f"no sudoku of size {self.size} with {self.holes} empty cells; sizes are {list(REGIONS)}.")

    def case_generator(self) -> dict[str, Any]:
        """A pattern grid with digits, rows within bands and columns within stacks shuffled."""
        high, wide = REGIONS[self.size]
        digits = random.sample(range(1, self.size + 1), self.size)
        rows = _shuffled_blocks(self.size, high)
        columns = _shuffled_blocks(self.size, wide)
        solution = [[digits[(wide * (r % high) + r // high + c) % self.size] for c in columns] for r in rows]
        hidden = set(random.sample(range(self.size**2), self.holes))
        puzzle = [[0 if self.size * r + c in hidden else cell for c, cell in enumerate(row)] for r, row in enumerate(solution)]
        return {"puzzle": puzzle, "solution": solution, "size": self.size, "region_rows": high, "region_cols": wide}

    @staticmethod
    def gold(case: dict[str, Any]) -> str:
        """The grid that the case was made from."""
        return _answer_block(case["solution"])


def _shuffled_blocks(size: int, block: int) -> list[int]:
    """0..size-1 with the numbers of each block of `block` shuffled among themselves."""
    return [one for start in range(0, size, block) for one in random.sample(range(start, start + block), block)]


@dataclass(frozen=True)
class BinairoStep:
    """Binairos of one even size with `shown` cells given."""

    size: int = 4
    shown: int = 8

    prompt_func = staticmethod(Binairo.prompt_func)
    extract_output = staticmethod(Binairo.extract_output)
    _verify_correction = staticmethod(Binairo._verify_correction)

    def __post_init__(self) -> None:
        if self.size not in (4, 6, 8) or not 0 < self.shown < self.size**2:
            raise ConfigError(f"no binairo of size {self.size} with {self.shown} given cells; sizes are 4, 6 and 8.")

    def case_generator(self) -> dict[str, Any]:
        """A random grid that keeps the rules, found row by row."""
        solution = _binairo(self.size)
        shown = set(random.sample(range(self.size**2), self.shown))
        puzzle = [[cell if self.size * r + c in shown else None for c, cell in enumerate(row)] for r, row in enumerate(solution)]
        return {"puzzle": puzzle, "solution": solution}

    @staticmethod
    def gold(case: dict[str, Any]) -> str:
        """The grid that the case was made from."""
        return _answer_block(case["solution"])


def _binairo(size: int) -> list[list[int]]:
    lines = [list(line) for line in itertools.product((0, 1), repeat=size) if sum(line) * 2 == size and not _has_three(line)]

    def grown(rows: list[list[int]]) -> list[list[int]] | None:
        if len(rows) == size:
            columns = {tuple(column) for column in zip(*rows, strict=True)}
            return rows if len(columns) == size else None
        for line in random.sample(lines, len(lines)):
            if line not in rows and _columns_hold([*rows, line], size // 2):
                found = grown([*rows, line])
                if found is not None:
                    return found
        return None

    found = grown([])
    assert found is not None  # grids of every even size exist
    return found


def _has_three(line: tuple[int, ...]) -> bool:
    return any(len(set(line[i : i + 3])) == 1 for i in range(len(line) - 2))


def _columns_hold(rows: list[list[int]], half: int) -> bool:
    columns = list(zip(*rows, strict=True))
    return all(sum(column) <= half and len(column) - sum(column) <= half and not _has_three(column) for column in columns)


@dataclass(frozen=True)
class Game24Step:
    """`count` numbers up to `high` and a target that they reach from left to right with these operators."""

    count: int = 3
    high: int = 9
    operators: str = "+-*"

    prompt_func = staticmethod(Game24.prompt_func)
    extract_output = staticmethod(Game24.extract_output)
    _verify_correction = staticmethod(Game24._verify_correction)

    def case_generator(self) -> dict[str, Any]:
        """Numbers, and the value of ((a . b) . c) ... for random operators."""
        numbers = [random.randint(1, self.high) for _ in range(self.count)]
        value, text = numbers[0], str(numbers[0])
        for number in numbers[1:]:
            operator = random.choice(self.operators)
            value = {"+": value + number, "-": value - number, "*": value * number}[operator]
            text = f"({text}){operator}{number}" if operator == "*" else f"{text}{operator}{number}"
        shown = random.sample(numbers, len(numbers))
        return {"puzzle": " ".join(map(str, shown)), "target": value, "solution": text}

    @staticmethod
    def gold(case: dict[str, Any]) -> str:
        """The expression that the target came from."""
        return f"\\boxed{{{case['solution']}}}"


@dataclass(frozen=True)
class CryptomathStep:
    """Sums of terms with these numbers of digits, `told` letters of which are given."""

    digits: tuple[int, ...] = (2, 2)
    told: int = 0

    extract_output = staticmethod(Cryptomath.extract_output)

    def case_generator(self) -> dict[str, Any]:
        """A sum in letters."""
        terms = [random.randint(10 ** (n - 1), 10**n - 1) for n in self.digits]
        numbers = [str(number) for number in (*terms, sum(terms))]
        shown = sorted(set("".join(numbers)))
        letters = dict(zip(shown, random.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", len(shown)), strict=True))
        words = ["".join(letters[digit] for digit in number) for number in numbers]
        solution = {letters[digit]: int(digit) for digit in shown}
        told = sorted(random.sample(sorted(solution), min(self.told, len(solution) - 1)))
        return {
            "left_terms": words[:-1], "right_term": words[-1], "leading_letters": sorted({word[0] for word in words}),
            "all_letters": sorted(solution), "solution": solution, "told": {letter: solution[letter] for letter in told},
        }  # fmt: skip

    @staticmethod
    def prompt_func(case: dict[str, Any]) -> str:
        """The puzzle's question, and the letters that are given."""
        known = ", ".join(f"{letter}={digit}" for letter, digit in case["told"].items())
        return Cryptomath.prompt_func(case) + (f"\nIt is known that {known}." if known else "")

    @staticmethod
    def _verify_correction(solution: str, case: dict[str, Any]) -> bool:
        if not Cryptomath._verify_correction(solution, case):
            return False
        digits = {
            letter.strip().upper(): int(digit) for letter, digit in (p.split("=") for p in solution.replace("，", ",").split(","))
        }
        return all(digits[letter] == digit for letter, digit in case["told"].items())

    @staticmethod
    def gold(case: dict[str, Any]) -> str:
        """The assignment that the sum came from."""
        return "[[" + ",".join(f"{letter}={digit}" for letter, digit in case["solution"].items()) + "]]"


def ladder() -> dict[str, str]:
    """Bootcamp name -> target of every difficulty step: 84 sudokus, 92 binairos, 175 games of numbers and 720 letter sums."""
    here, found = "factory.rewards.bridges.puzzle_ladder", {}
    for size, most in ((4, 10), (6, 24), (9, 50)):
        for holes in range(1, most + 1):
            found[f"sudoku-{size}-{holes}"] = f"{here}:SudokuStep(size={size}, holes={holes})"
    for size, least, most in ((4, 1, 14), (6, 4, 32), (8, 8, 56)):
        for shown in range(least, most + 1):
            found[f"binairo-{size}-{shown}"] = f"{here}:BinairoStep(size={size}, shown={shown})"
    names = {"+": "plus", "-": "minus", "*": "times"}
    for count, high, operators in itertools.product(range(2, 7), (5, 9, 12, 20, 30, 50, 99), OPERATORS):
        label = "-".join(names[one] for one in operators)
        found[f"game24-{count}-{high}-{label}"] = f"{here}:Game24Step(count={count}, high={high}, operators={operators!r})"
    for terms in (2, 3, 4):
        for digits in itertools.combinations_with_replacement(range(1, 6), terms):
            for told in range(6):
                name = f"cryptomath-{''.join(map(str, digits))}-{told}"
                found[name] = f"{here}:CryptomathStep(digits={digits}, told={told})"
    return found
