"""Plans and refusals of the merge stage, without torch."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from factory.contracts import ModelFacts
from factory.errors import ConfigError
from factory.plugins import load_stage
from factory.stages.merge.config import By, How, MergeConfig

FACTS = ModelFacts("toy", "text", 1000, 16, 2, 100, 512)
PACK = SimpleNamespace(manifest=SimpleNamespace(name="toy", provides=("samples",)))


def plan(pack=PACK, **settings):
    return load_stage("merge").plan(
        "merge", MergeConfig(**{"reads": ["sft", "rl"]} | settings), FACTS, pack, {"precision": "fp32"}
    )


def test_average_generates_nothing():
    got = plan()
    assert (got.num_generated_tokens, got.num_tokens, got.num_steps) == (0, 0, 2)
    # one model 1000 x 4 B, and three float64 copies of its largest tensor, 100 x 16
    assert got.peak_memory_bytes == 1000 * 4 + 3 * 1600 * 8


def test_choosing_generates_for_every_model():
    got = plan(how=How.choose, samples=10, max_new_tokens=5)
    assert (got.num_samples, got.num_generated_tokens) == (2 * 10, 2 * 10 * 5)
    assert "keeps one of sft, rl by entropy" in got.notes[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reads": ["sft"]}, r"stages.merge.reads names 1 stages; average needs 2 or more"),
        ({"reads": ["sft", "sft"]}, r"names sft more than once"),
        ({"weights": [1.0]}, r"weights has 1 numbers for 2 stages \(sft, rl\)"),
        ({"weights": [1.0, -1.0]}, r"weights are finite, 0 or more"),
        ({"weights": [0.0, 0.0]}, r"not all 0"),
        ({"how": How.choose, "weights": [1.0, 1.0]}, r"which averages nothing"),
        ({"how": How.choose, "samples": 0}, r"samples is 0; give 1 or more"),
        ({"how": How.choose, "temperature": -1.0}, r"temperature is -1.0"),
        ({"how": How.choose, "words": [" "]}, r"words names no word"),
        ({"how": How.choose, "max_new_tokens": 512}, r"the model reads 512 tokens in all"),
    ],
)
def test_settings_that_cannot_run_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(**settings)


def test_choosing_needs_samples():
    without = SimpleNamespace(manifest=SimpleNamespace(name="books", provides=("corpus",)))
    with pytest.raises(ConfigError, match="pack 'books' provides no samples"):
        plan(pack=without, how=How.choose, by=By.validation)


def test_recipe_words_become_the_config():
    from omegaconf import OmegaConf

    node = OmegaConf.merge(OmegaConf.structured(MergeConfig), {"how": "choose", "by": "validation", "reads": ["a", "b"]})
    config = OmegaConf.to_object(node)
    assert (config.how, config.by) == (How.choose, By.validation)


def test_planning_loads_no_torch():
    code = "import sys; from factory.plugins import load_stage; load_stage('merge'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
