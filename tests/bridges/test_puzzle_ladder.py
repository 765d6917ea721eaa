"""Difficulty steps of the puzzles: each makes solvable cases of its difficulty, and settings in a target are plain values."""

import json
import random

import pytest

from factory.contracts import DataRequest, Manifest, Sample, Status
from factory.errors import ConfigError, DataError, PluginError
from factory.rewards.bridges.bootcamp import Bootcamps, camp_at
from factory.rewards.bridges.pack import BARREN, BridgePack, manifest_tasks
from factory.rewards.bridges.puzzle_ladder import BinairoStep, CryptomathStep, Game24Step, SudokuStep, ladder
from factory.rewards.bridges.puzzles import CAMPS

STEPS = ladder()


def pack_of(bridges, **settings):
    return BridgePack(
        Manifest("p", "P", "1", license="MIT", intended_use="tests", not_for="else", tasks=manifest_tasks(bridges)),
        bridges,
        **settings,
    )


def test_there_are_over_a_thousand_steps():
    # Sudokus 10 + 24 + 50, binairos 14 + 29 + 49, games 5 counts x 7 ranges x 5 operator sets,
    # letter sums (15 + 35 + 70 multisets of 1-5 digits for 2, 3, 4 terms) x 6.
    counts = {kind: sum(name.startswith(kind) for name in STEPS) for kind in ("sudoku", "binairo", "game24", "cryptomath")}
    assert counts == {"sudoku": 84, "binairo": 92, "game24": 175, "cryptomath": 720}
    assert sum(counts.values()) == len(STEPS) == 1071


@pytest.mark.parametrize("start", range(7))
def test_the_kept_solution_is_paid_and_nothing_is_not(start):
    """Every 7th step of all from `start` on: together all of them."""
    random.seed(start)
    verifier = Bootcamps(STEPS).verifier()
    for name in list(STEPS)[start::7]:
        camp = camp_at(STEPS[name])
        case = json.loads(json.dumps(camp.case_generator()))
        sample = Sample("s", f"bootcamp/{name}", (), None, meta={"bridge": {"camp": name, "identity": case}})
        assert verifier(camp.gold(case), sample).status is Status.ok, (name, case)
        assert verifier(camp.prompt_func(case), sample).score == 0.0
        assert verifier("", sample).status is Status.unparsable


def test_an_answer_in_the_reasoning_only_is_none():
    case = {"puzzle": "1 2 3", "target": 6}
    verifier = Bootcamps(CAMPS).verifier()
    sample = Sample("s", "bootcamp/game24", (), None, meta={"bridge": {"camp": "game24", "identity": case}})
    gold = "\\boxed{1+2+3}"
    for text, score in ((gold, 1), (f"<think>{gold}</think>", 0), (f"<think>{gold}", 0), (f"<think>so</think>{gold}", 1),
                        (f"{gold}</think>", 0), (f"<think>{gold}</think>\\boxed{{1+2}}", 0)):  # fmt: skip
        assert verifier(text, sample).score == score, text


def test_settings_set_the_difficulty():
    random.seed(0)
    case = SudokuStep(size=9, holes=31).case_generator()
    assert len(case["puzzle"]) == 9 and sum(cell == 0 for row in case["puzzle"] for cell in row) == 31
    case = BinairoStep(size=8, shown=20).case_generator()
    assert sum(cell is not None for row in case["puzzle"] for cell in row) == 20
    numbers = [int(n) for n in Game24Step(count=6, high=5, operators="+").case_generator()["puzzle"].split()]
    assert len(numbers) == 6 and max(numbers) <= 5
    case = CryptomathStep(digits=(1, 3, 5), told=2).case_generator()
    assert [len(word) for word in case["left_terms"]] == [1, 3, 5] and len(case["told"]) == 2
    assert f"{next(iter(case['told']))}={next(iter(case['told'].values()))}" in CryptomathStep.prompt_func(case)


def test_a_solution_against_a_given_letter_is_wrong():
    # A+B=C with A given as 1: 1+2=3 is right; 2+1=3 is a right sum but not of this puzzle.
    case = {
        "left_terms": ["A", "B"],
        "right_term": "C",
        "leading_letters": ["A", "B", "C"],
        "all_letters": ["A", "B", "C"],
        "told": {"A": 1},
    }
    assert CryptomathStep._verify_correction("A=1,B=2,C=3", case)
    assert not CryptomathStep._verify_correction("A=2,B=1,C=3", case)


@pytest.mark.parametrize("target", ["SudokuStep(size=5)", "SudokuStep(holes=99)", "BinairoStep(size=5)", "BinairoStep(shown=0)"])
def test_impossible_steps_are_refused(target):
    with pytest.raises(ConfigError, match="sizes are"):
        camp_at(f"factory.rewards.bridges.puzzle_ladder:{target}")


@pytest.mark.parametrize(
    "target",
    ["SudokuStep(4)", "SudokuStep(**{})", "SudokuStep(size=open('x'))", "SudokuStep(colour=1)", "SudokuStep(size", "Nothing"],
)
def test_targets_hold_plain_values_only(target):
    with pytest.raises(PluginError, match="cannot be made"):
        camp_at(f"factory.rewards.bridges.puzzle_ladder:{target}")


def test_files_given_with_data_replace_generated_cases(tmp_path):
    case = {"puzzle": "1 2 3", "target": 6}
    rows = [{"data_source": "Game24", "prompt": f"make 6, take {i}", "ground_truth": case} for i in range(40)]
    (tmp_path / "game24.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pack = pack_of((Bootcamps(CAMPS),))
    request = DataRequest(paths=(str(tmp_path),), limit=40)
    drawn = [s for s in pack.samples("train", 0, request) if s.task == "bootcamp/game24"]
    assert drawn and all(sample.source.startswith("game24.jsonl:") for sample in drawn)
    assert not any(s.source.startswith("game24.jsonl") for s in pack.samples("train", 0, DataRequest(limit=40)))
    with pytest.raises(DataError, match="no file of bootcamp cases"):
        list(pack.samples("train", 0, DataRequest(paths=(str(tmp_path / "nowhere"),), limit=1)))


def test_a_changed_file_is_read_anew(tmp_path):
    file = tmp_path / "a.jsonl"
    row = {"data_source": "game24", "prompt": "one", "ground_truth": {"puzzle": "1", "target": 1}}
    bridge = Bootcamps({"game24": CAMPS["game24"]}, files=(str(file),))

    def prompts():
        return {s.text() for split in ("train", "validation", "test") for s in bridge.samples("bootcamp/game24", split, 0)}

    file.write_text(json.dumps(row))
    assert prompts() == {"one"}
    file.write_text(json.dumps(row) + "\n" + json.dumps(row | {"prompt": "two"}))
    assert prompts() == {"one", "two"}


def test_lessons_leave_out_tasks_without_a_known_answer():
    """The plain puzzles know none; an endless stream of them must not hold up the rest."""
    mixed = CAMPS | {name: STEPS[name] for name in ("game24-2-5-plus", "sudoku-4-1")}
    lessons = list(pack_of((Bootcamps(mixed),)).lessons("train", 0, DataRequest(limit=6)))
    assert {lesson.sample.task for lesson in lessons} == {"bootcamp/game24-2-5-plus", "bootcamp/sudoku-4-1"} and len(lessons) == 6


def test_long_prompts_are_left_out():
    names = ("sudoku-4-3", "sudoku-9-30")
    bridges = (Bootcamps({name: STEPS[name] for name in names}),)
    longest = {s.task: len(s.text()) for s in pack_of(bridges).samples("train", 0, DataRequest(limit=2))}
    short = pack_of(bridges, max_chars=min(longest.values()) + 5)
    drawn = list(short.samples("train", 0, DataRequest(limit=BARREN)))
    assert {sample.task for sample in drawn} == {"bootcamp/sudoku-4-3"} and len(drawn) == BARREN
