"""Bad steps: skipped and counted, then a rollback with a smaller step, then the end; and the same after any resume."""

import math

import pytest

from factory.config.schema import OptimConfig
from factory.errors import ConfigError, RolledBack, TrainingError
from factory.stages.learner import Learner
from factory.stages.models.load import load
from factory.stages.objectives import TokenNLL
from factory.stages.setbacks import FEWEST_NORMS, Setbacks


class Faulty(TokenNLL):
    """The loss is not a number while `is_bad`."""

    is_bad = False

    def loss(self, model, batch, totals):
        loss, metrics = super().loss(model, batch, totals)
        return (loss * math.nan if self.is_bad else loss), metrics


def make(base, tmp_path, world, **optim):
    learner = Learner(
        load(base, precision="fp32"), OptimConfig(lr=1e-3, warmup_steps=0, schedule="constant", **optim), 20, tmp_path, seed=0
    )
    batch = learner.loaded.codec.collate([learner.loaded.codec.document(world.sentence(1))])
    return learner, batch


def test_a_rollback_goes_on_from_the_last_good_checkpoint_with_a_smaller_step(text_base, tmp_path, world):
    learner, batch = make(text_base, tmp_path, world, bad_steps=2, checkpoint_every=1)
    loss = Faulty()
    assert learner.resume({}) == 0
    assert learner.step([batch], loss)["lr"] == 1e-3
    assert learner.save_checkpoint_if_due(1, {})
    loss.is_bad = True
    figures = learner.step([batch], loss)
    assert figures["bad_steps"] == 1 and "loss" not in figures
    assert not learner.save_checkpoint_if_due(2, {})  # the step was bad
    with pytest.raises(RolledBack, match=r"step 3 of 20: the loss is nan, 2 bad steps in a row.*0\.5 times the learning rate"):
        learner.step([batch], loss)
    again, batch = make(text_base, tmp_path, world, bad_steps=2, checkpoint_every=1)
    assert again.resume({}) == 1
    assert again.step([batch], TokenNLL())["lr"] == 5e-4
    assert again.setbacks.told() == {"setbacks": {"skipped_steps": 0, "rollbacks": 1, "lr_scale": 0.5}}


def test_after_the_last_rollback_it_stops_and_says_what_to_do(text_base, tmp_path, world):
    for number in range(3):
        learner, batch = make(text_base, tmp_path, world, bad_steps=1)
        assert learner.resume({}) == 0
        loss = Faulty()
        loss.is_bad = True
        with pytest.raises(
            RolledBack if number < 2 else TrainingError, match="Lower optim.lr" if number == 2 else "Rolled back"
        ) as caught:
            learner.step([batch], loss)
        assert (type(caught.value) is RolledBack) == (number < 2)
    assert "after 2 rollbacks with smaller steps" in str(caught.value)


def test_counts_survive_a_resume(text_base, tmp_path, world):
    learner, batch = make(text_base, tmp_path, world)
    loss = Faulty()
    loss.is_bad = True
    learner.step([batch], loss)
    loss.is_bad = False
    learner.step([batch], loss)
    learner.save_checkpoint(2, {})
    again, _ = make(text_base, tmp_path, world)
    assert again.resume({}) == 2
    assert again.setbacks.told()["setbacks"]["skipped_steps"] == 1


def test_a_spike_is_held_against_the_median_of_good_steps(tmp_path):
    backs = Setbacks(OptimConfig(spike_ratio=10.0), tmp_path)
    for norm in range(1, FEWEST_NORMS):
        assert backs.fault(0.0, 1e6) == ""  # too few to compare with
        backs.good(float(norm))
    backs.good(8.0)
    # norms 1..8, median 4.5: 45 is not above ten times that, 45.1 is
    assert backs.fault(0.0, 45.0) == ""
    assert "above optim.spike_ratio=10 times its median 4.5" in backs.fault(0.0, 45.1)
    twin = Setbacks(OptimConfig(spike_ratio=10.0), tmp_path)
    twin.resume(backs.state_dict())
    assert twin.fault(0.0, 45.1) == backs.fault(0.0, 45.1)
    assert Setbacks(OptimConfig(), tmp_path).fault(0.0, 1e30) == ""


@pytest.mark.parametrize(
    "wrong",
    [{"bad_steps": 0}, {"max_rollbacks": -1}, {"rollback_lr_scale": 0.0}, {"rollback_lr_scale": 1.5}, {"spike_ratio": 0.5}],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Setbacks(OptimConfig(**wrong), tmp_path)


def test_a_damaged_note_of_rollbacks_is_refused(tmp_path):
    (tmp_path / "setbacks.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        Setbacks(OptimConfig(), tmp_path).resume(None)
