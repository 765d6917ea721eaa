"""The pieces that change nothing: the pack's own prompt, and the reference that stays what it was."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from factory.contracts import Message, Sample
from factory.stages.models.load import load
from factory.stages.rl.config import RlConfig
from factory.stages.rl.pieces.basics import PackFormat, StartReference
from factory.stages.rl.presets import resolve
from factory.stages.rl.reference import make_reference

MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1, max_size=4)


@pytest.mark.proves("format.pack", "table")
def test_the_packs_prompt_is_left_alone():
    sample = Sample(id="s", task="t", messages=(Message("user", "<image>\nWhich stain?"),), reference="he")
    assert PackFormat().render(sample) is sample and PackFormat().read("<answer>he</answer>") == {}


@pytest.mark.proves("format.pack", "law")
@given(MESSAGES, st.text())
def test_no_prompt_and_no_text_is_changed(messages, text):
    sample = Sample(id="s", task="t", messages=tuple(messages), reference=None)
    assert PackFormat().render(sample) == sample and PackFormat().read(text) == {}


@pytest.mark.proves("reference.start", "table", "law")
def test_the_reference_stays_the_model_of_the_start(base):
    """Whatever happens to the policy afterwards, the reference's weights are those of the start, bit for bit."""
    loaded = load(base, precision="fp32")
    start = copy.deepcopy(loaded.model.state_dict())
    chosen = resolve(RlConfig(pieces={"kl": "k3"}))
    assert isinstance(chosen.one("reference"), StartReference)
    reference = make_reference(loaded, chosen)
    for step in range(3):
        with torch.no_grad():
            for parameter in loaded.model.parameters():
                parameter.add_(0.1 * (step + 1))
        reference.update(step, loaded.model)
        with reference.model(torch.device("cpu")) as model:
            held = model.state_dict()
            assert held.keys() == start.keys() and all(torch.equal(held[name], start[name]) for name in start)


def test_nothing_is_kept_when_no_piece_compares():
    assert make_reference(SimpleNamespace(model=None), resolve(RlConfig(preset="dapo"))) is None
