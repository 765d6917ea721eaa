"""Stage kinds, RL pieces, rollout engines, launchers and judges of other packages: found by name, with the same three errors."""

import json
import sys
from types import SimpleNamespace

import pytest

from factory.config.compose import compose
from factory.errors import BrokenPlugin, ConfigError, DuplicatePlugin, UnknownPlugin
from factory.launch.launchers import check_launcher, make_launcher
from factory.launch.local import worker_command
from factory.pipeline.fingerprint import plugin_sources
from factory.plugins import load_plugin, load_stage
from factory.rewards.judges.kinds import kinds
from factory.rewards.judges.pool import open_judge
from factory.rewards.judges.settings import read_judges
from factory.stages.rl.config import RlConfig
from factory.stages.rl.engines import check_engine, make_engine
from factory.stages.rl.pieces import catalogue
from factory.stages.rl.pieces.describe import find_by_key
from factory.stages.rl.pieces.piece import entered
from factory.stages.rl.presets import resolve

PIECE = '''
from dataclasses import dataclass
from factory.stages.rl.pieces.piece import piece

@piece("weigh", "{name}", formula="A * k", source="a test")
@dataclass(frozen=True)
class Halve:
    """Scale all advantages."""

    k: float = 0.5

    def apply(self, ctx, groups):
        pass
'''


@pytest.fixture
def catalogued(monkeypatch):
    """Pieces entered by a test leave with it."""
    catalogue.pieces()  # the factory's own are entered once in a process: they stay
    before = dict(entered())
    yield
    for key in set(entered()) - set(before):
        del entered()[key]


def test_an_installed_piece_is_named_at_once_and_imported_when_asked_for(site, catalogued):
    site.add(
        "more-pieces", {"factory.rl_pieces": {"weigh.halve": "more_pieces:Halve"}}, {"more_pieces.py": PIECE.format(name="halve")}
    )
    assert "halve" in catalogue.names("weigh") and "weigh.halve" not in catalogue.pieces() and "more_pieces" not in sys.modules
    chosen = resolve(RlConfig(pieces={"weigh": {"halve": {"k": 0.25}}}))
    assert chosen.made["weigh.halve"].k == 0.25 and chosen.changed[-1:] == ("weigh.halve.k=0.25",)
    assert find_by_key("weigh.halve").source == "a test"
    sources = plugin_sources(load_stage("rl"), RlConfig(pieces={"weigh": {"halve": {}}}))
    assert list(sources) == ["site"], "the piece's source counts in the stage's fingerprint"
    assert plugin_sources(load_stage("rl"), RlConfig()) == {}


def test_a_piece_under_another_name_than_its_entry_point_is_broken(site, catalogued):
    site.add(
        "wrong", {"factory.rl_pieces": {"weigh.other": "wrong_pieces:Halve"}}, {"wrong_pieces.py": PIECE.format(name="halve2")}
    )
    with pytest.raises(BrokenPlugin, match=r"does not enter itself .* @piece\('weigh', 'other'"):
        catalogue.find("weigh", "other")


def test_two_packages_with_one_piece_and_an_unknown_one(site, catalogued):
    for name in ("one", "two"):
        site.add(
            name,
            {"factory.rl_pieces": {"weigh.twice": f"{name}_pieces:Halve"}},
            {f"{name}_pieces.py": PIECE.format(name="twice")},
        )
    with pytest.raises(DuplicatePlugin, match=r"one 1.0 and two 1.0|two 1.0 and one 1.0"):
        catalogue.find("weigh", "twice")
    with pytest.raises(ConfigError, match=r"Did you mean 'twice'"):
        catalogue.find("weigh", "twise")


def test_pieces_list_names_installed_ones_without_importing_them(site, factory):
    site.add(
        "hangs", {"factory.rl_pieces": {"weigh.slow": "slow_pieces:Slow"}}, {"slow_pieces.py": "import time\ntime.sleep(3600)\n"}
    )
    done = factory("pieces", "list", "--slot", "weigh", "--json", timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"key": "weigh.slow", "slot": "weigh", "name": "slow", "installed": True} in json.loads(done.stdout)


def test_an_installed_engine_gets_its_argument(site):
    code = "def engine(argument, learner, *, prompts_per_generation):\n    return (argument, learner, prompts_per_generation)\n"
    site.add(
        "engines", {"factory.rollout_engines": {"mine": "my_engine:engine", "gone": "no_such:engine"}}, {"my_engine.py": code}
    )
    check_engine("mine:http://localhost:8000")
    assert make_engine("mine:http://localhost:8000", "learner", prompts_per_generation=4) == (
        "http://localhost:8000",
        "learner",
        4,
    )
    assert make_engine("mine", "learner")[0] == ""
    with pytest.raises(ConfigError, match=r"Did you mean 'mine'"):
        check_engine("minne")
    with pytest.raises(BrokenPlugin, match=r"'gone' from engines 1.0 is installed but broken"):
        make_engine("gone", "learner")


def test_an_installed_launcher_writes_the_command(site):
    code = "def launch(module, arguments, processes):\n    return ['mpirun', '-n', str(processes), module, *arguments]\n"
    site.add(
        "mpi", {"factory.launchers": {"mpi": "mpi_launcher:launch", "odd": "mpi_launcher:__name__"}}, {"mpi_launcher.py": code}
    )
    check_launcher("mpi")
    assert "mpi_launcher" not in sys.modules, "a plan does not import it"
    assert make_launcher("mpi")("m", ["JOB"], 2) == ["mpirun", "-n", "2", "m", "JOB"]
    assert make_launcher("local") is worker_command
    with pytest.raises(UnknownPlugin, match=r"unknown launcher 'mpy'. Did you mean 'mpi'.* Installed: .*local, mpi.*, odd"):
        check_launcher("mpy")
    with pytest.raises(BrokenPlugin, match=r"is a str, want something callable"):
        make_launcher("odd")


def test_an_unknown_launcher_is_refused_by_the_plan(site, factory):
    site.add_arith("sums")
    done = factory("plan", "--domain", "sums", "--set", "launch.launcher=slurn", timeout=60)
    assert done.returncode == 4 and "unknown launcher 'slurn'" in done.stderr


JUDGE = """
class Length:
    is_share = True

    def __init__(self, settings):
        self.most = int(settings.path)

    def score(self, completion, sample):
        return min(1.0, len(completion) / self.most)

    def close(self):
        pass
"""


def test_an_installed_judge_is_opened_with_its_settings(site):
    site.add("judging", {"factory.judges": {"length": "length_judge:Length"}}, {"length_judge.py": JUDGE})
    assert kinds()[-1] == "length"
    settings = read_judges({"judges": {"long": {"kind": "length", "path": "8"}}})["long"]
    sample = SimpleNamespace(id="a", reference="x", task="t")
    assert open_judge("long", settings)("abcd", sample).score == 0.5
    with pytest.raises(ConfigError, match=r"Did you mean 'length'"):
        read_judges({"judges": {"long": {"kind": "lenght"}}})
    with pytest.raises(ConfigError, match=r"prompts and completions would leave the building"):
        read_judges({"judges": {"long": {"kind": "length", "url": "https://example.org"}}})


def test_an_installed_stage_kind_is_found_by_its_recipe(site):
    code = (
        "from factory.config.schema import StageConfig\nfrom dataclasses import dataclass\n@dataclass\nclass C(StageConfig):\n    depth: int = 3\n"
        "class S:\n    kind = 'dig'\n    config_type = C\n    consumes = produces = frozenset({'model'})\nSTAGE = S()\n"
    )
    site.add("digging", {"factory.stage_kinds": {"dig": "dig_stage:STAGE"}}, {"dig_stage.py": code})
    site.add_arith("sums")
    config = compose("sums", overrides=["stages.dig={kind: dig, depth: 5}"]).config
    assert config.stages["dig"].depth == 5


def test_plugins_of_a_group_without_folders_have_the_three_errors(site):
    site.add("one", {"factory.judges": {"same": "json:dumps"}})
    site.add("two", {"factory.judges": {"same": "json:loads"}})
    with pytest.raises(DuplicatePlugin):
        load_plugin("factory.judges", "same")
    assert load_plugin("factory.judges", "two/same") is json.loads
    with pytest.raises(UnknownPlugin, match=r"unknown kind of judge 'sane'. Did you mean 'same'"):
        load_plugin("factory.judges", "sane")
