"""Every code block of the documentation runs, page by page, or says in the page what it needs that is not here."""

import json
import re
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import code_blocks
import run_blocks

from factory.registry.models import Registry

BLOCKS = list(code_blocks.blocks())
CHECKED = ("text", "yaml", "json", "jsonl")
"""Not programs: shown output, and data that test_code_blocks.py reads and composes."""
PAGES = [
    page for page in dict.fromkeys(block.path for block in BLOCKS)
    if page not in run_blocks.ELSEWHERE and any(block.path == page and block.language in (*run_blocks.SHELL, "python") for block in BLOCKS)
]  # fmt: skip
WRITTEN = "pathology-embedded-s0-1a2b3c4d"
"""The name of a run in the pages."""


def test_every_block_is_run_or_read_or_says_what_it_needs():
    """`Line` refuses a mark whose word is unknown; a block in another language would be neither run nor read."""
    kinds = (*run_blocks.SHELL, *CHECKED, "python")
    assert [f"{block}: {block.language}" for block in BLOCKS if block.language not in kinds] == []
    lines = [line for block in BLOCKS if block.language in run_blocks.SHELL for line in run_blocks.lines(block)]
    marked = [line for line in lines if line.needs]
    assert len(lines) > 100 and len(marked) < len(lines) / 2
    for page, test in run_blocks.ELSEWHERE.items():
        assert Path(page).name in (run_blocks.ROOT / test).read_text(), f"{test} does not speak of {page}"


def test_what_is_not_run_needs_something_and_what_needs_nothing_is_run():
    block = code_blocks.Block(
        "x.md", 1, "", "factory a  # words; needs: network, gpu\n\\\n# only words\nfactory b \\\n  --c  # needs no more", ""
    )
    first, second = run_blocks.lines(block)
    assert first.needs == ("network", "gpu") and not first.is_runnable
    assert second.text.startswith("factory b  --c") and second.is_runnable
    with pytest.raises(KeyError, match="want some of"):
        run_blocks.needs_of("luck")


def test_reward_functions_that_the_pages_name_exist():
    import importlib

    module = importlib.import_module("factory.interop.reward_functions")
    named = re.findall(r"factory\.interop\.reward_functions\.(\w+)", "\n".join(block.text for block in BLOCKS))
    assert len(named) >= 2
    for name in named:
        assert callable(getattr(module, name))


@dataclass(frozen=True)
class House:
    """A user's home with one build of pathology, as the pages' commands make it, and its environment."""

    home: Path
    environment: dict[str, str]
    run: str

    @property
    def runs(self) -> Path:
        return self.home / ".factory" / "runs"


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """One small build; its run copied under the other names of runs, its model registered once more as `my-model`."""
    home = tmp_path_factory.mktemp("home")
    environment = run_blocks.environment(home, run_blocks.programs(home / "bin"))
    with run_blocks.running(environment, home / "bin"):
        scene = run_blocks.Scene(home, environment, dict)
        scene.shell("factory build --domain pathology", home, "the build that the pages look at")
        [run] = (home / ".factory" / "runs").iterdir()
        for name in ("my-run", "RUN_A", "RUN_B", "RUN_C"):
            shutil.copytree(run, run.parent / name)
        registry = Registry(home / ".factory" / "registry")
        folder = next((run / "stages").glob("*-sft")) / "model"
        registry.register(replace(registry.show(f"{run.name}-v1"), name="my-model", version=0), folder)
        scene.shell(f"factory export my-model-v1 {home / 'my-model'}", home, "a model folder")
        shutil.copytree(next((run / "stages").glob("00-base")) / "model", home / "the-base")
        yield House(home, environment, run.name)


def own_data(folder: Path) -> None:
    """Multiple choice about tiles, as a pathologist keeps them: a table beside its pictures, with the reason for each answer."""
    from PIL import Image

    folder.mkdir()
    rows = []
    for number in range(40):
        Image.new("RGB", (64, 64), (200, 60 + 4 * number, 180)).save(folder / f"tile{number}.png")
        rows.append({
            "image": f"tile{number}.png", "question": f"Which stain has tile {number}?", "options": ["A) H&E", "B) IHC"],
            "answer": "B) IHC", "explanation": f"brown in tile {number}",
        })  # fmt: skip
    (folder / "tiles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def furnished(folder: Path, house: House) -> Path:
    """What the pages' commands find where they are typed."""
    for name in ("my-model", "the-base"):
        shutil.copytree(house.home / name, folder / name)
    own_data(folder / "my-data")
    (folder / "domains").symlink_to(run_blocks.ROOT / "domains")
    (folder / "docs").symlink_to(run_blocks.ROOT / "docs")
    (folder / "data").mkdir()
    (folder / "data" / "rows.csv").write_text("a,b\n1,2\n")
    (folder / "rows.jsonl").write_text('{"instruction": "Say yes.", "input": "", "output": "yes"}\n')
    verify = next(block.text for block in BLOCKS if block.path == "docs/verify.md" and block.language == "json")
    (folder / "answers.jsonl").write_text(verify + "\n")
    (folder / "runs" / "...").mkdir(parents=True)
    shutil.copy(next((house.runs / "my-run" / "stages").glob("*-rl")) / "tasks.jsonl", folder / "runs" / "..." / "tasks.jsonl")
    return folder


def names(page: str, house: House) -> dict[str, str]:
    """What stands in the pages for a name -> the name here. `RUN` in the page of a pack is the run of its plain build."""
    built = sorted(house.runs.glob(f"{Path(page).parent.name}-embedded-s0-*")) if page.startswith("domains/") else []
    run = built[-1].name if built else house.run
    return {"RUN/stages": str(house.runs / run / "stages"), "RUN": run, "MODEL": f"{house.run}-v1",
            f"{WRITTEN}-v1": f"{house.run}-v1", WRITTEN: house.run}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page, house, tmp_path):
    scene = run_blocks.Scene(furnished(tmp_path, house), house.environment, lambda: names(page, house))
    mine = [block for block in BLOCKS if block.path == page and block.language in run_blocks.SHELL]
    runnable = [line for block in mine for line in run_blocks.lines(block) if line.is_runnable]
    assert scene.run(page) >= len(runnable)
