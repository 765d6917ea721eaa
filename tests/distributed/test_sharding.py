"""DeepSpeed's templates, what a user's own file may not say, and the choice that `launch.deepspeed=auto` makes."""

import json
from dataclasses import replace

import pytest

from factory.config.compose import compose
from factory.contracts import ModelFacts, StagePlan
from factory.errors import ConfigError
from factory.pipeline.fingerprint import identity_of_settings
from factory.pipeline.sharding import device_bytes, with_sharding
from factory.stages.deepspeed_config import TEMPLATES, complete, offloaded_bytes, read_config, split_as, stage_of

GIB = 2**30
FACTS = ModelFacts("base", "text", 10**9, 2048, 24, 150_000, 4096)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_whole_and_leaves_the_learners_settings_to_it(name):
    config = complete(read_config(name, stage_of(name), nvme_path="/fast"), clip_norm=0.7, has_gpu=True)
    assert config["zero_optimization"]["stage"] == stage_of(name)
    assert (config["gradient_accumulation_steps"], config["gradient_clipping"]) == (1, 0.7)
    assert config["bf16"] == {"enabled": "auto", "check_grad_overflow": True}
    placed = {
        part: config["zero_optimization"][part]["device"]
        for part in ("offload_optimizer", "offload_param")
        if part in config["zero_optimization"]
    }
    want = {
        "zero2-offload": {"offload_optimizer": "cpu"},
        "zero3-offload": dict.fromkeys(("offload_optimizer", "offload_param"), "cpu"),
    }
    want["zero3-nvme"] = dict.fromkeys(("offload_optimizer", "offload_param"), "nvme")
    assert placed == want.get(name, {})
    if name == "zero3-nvme":
        assert config["zero_optimization"]["offload_param"]["nvme_path"] == "/fast"


def test_without_a_gpu_nothing_overlaps_and_no_memory_is_pinned():
    zero = complete(read_config("zero3-offload", 3), clip_norm=1.0, has_gpu=False)["zero_optimization"]
    assert not zero["overlap_comm"] and not zero["offload_optimizer"]["pin_memory"] and not zero["offload_param"]["pin_memory"]


def test_no_name_means_the_plain_template_of_the_stage():
    assert [read_config("", stage) == read_config(f"zero{stage}", stage) for stage in (1, 2, 3)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        ("zero2-ofload", 2, "Did you mean 'zero2-offload'"),
        ("zero3", 2, "has ZeRO stage 3, and launch.zero_stage is 2. Set launch.zero_stage=3"),
        ("zero3-nvme", 3, "needs launch.nvme_path"),
        ("nowhere.json", 2, "nowhere.json"),
    ],
)
def test_a_wrong_name_is_refused_with_a_way_out(name, stage, message):
    with pytest.raises(ConfigError, match=message):
        read_config(name, stage)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no DeepSpeed configuration"),
        ("[]", "is no DeepSpeed configuration"),
        (
            '{"zero_optimization": {"stage": 2}, "sequence_parallel_size": 2}',
            "splits a row over processes.*gradient_checkpointing",
        ),
        ('{"zero_optimization": {"stage": 2}, "optimizer": {"type": "Adam"}}', "takes optimizer out of the factory's hands"),
    ],
)
def test_a_users_file_is_checked(tmp_path, content, message):
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path), 2)


def test_a_users_file_is_taken(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2, "reduce_bucket_size": 7}}))
    assert complete(read_config(str(path), 2), clip_norm=1.0, has_gpu=True)["zero_optimization"]["reduce_bucket_size"] == 7


def needed(composed):
    """Plans of a stage that needs 24 GiB whole; ZeRO 1 to 3 need 16, 14 and 9 of it on each of two processes."""
    return [
        StagePlan("sft", "sft", 1, 1, 1, peak_memory_bytes={-1: 24, 1: 16, 2: 14, 3: 9}[composed.config.launch.zero_stage] * GIB)
    ]


def composed(**launch):
    settings = {"processes": 2, "deepspeed": "auto", **launch}
    found = compose("biology", overrides=[f"launch.{key}={value}" for key, value in settings.items()])
    return found


@pytest.mark.parametrize(
    ("device", "template"),
    # 1e9 parameters on 2 processes: offload saves 0.5e9 x 8 B = 3.7 GiB under ZeRO 2, x 12 B = 5.6 GiB under ZeRO 3. A device is filled to 90 %.
    [(18, "zero1"), (17, "zero2"), (12, "zero2-offload"), (10.8, "zero3"), (4, "zero3-offload")],
)
def test_auto_takes_the_first_that_fits(device, template):
    chosen, notes = with_sharding(composed(device_gib=device), FACTS, needed)
    assert (chosen.config.launch.deepspeed, chosen.config.launch.zero_stage) == (template, stage_of(template))
    assert (chosen.plain["launch"]["deepspeed"], chosen.plain["launch"]["zero_stage"]) == (template, stage_of(template))
    assert f"takes {template}" in notes[0] and "launch.device_gib" in notes[0]


def test_auto_says_what_would_help_when_nothing_fits():
    with pytest.raises(
        ConfigError, match=r"nothing fits 90% of 2\.0 GiB \(launch\.device_gib\).*zero3-offload 3\.4 GiB.*gradient_checkpointing"
    ):
        with_sharding(composed(device_gib=2), FACTS, needed)


def test_the_disk_is_tried_only_where_one_is_named():
    with pytest.raises(ConfigError) as without:
        with_sharding(composed(device_gib=2), FACTS, needed)
    with pytest.raises(ConfigError) as named:
        with_sharding(composed(device_gib=2, nvme_path="/fast"), FACTS, needed)
    assert "zero3-nvme" not in str(without.value) and "zero3-nvme" in str(named.value)


def test_a_named_template_needs_its_zero_stage():
    with pytest.raises(ConfigError, match=r"launch\.deepspeed=zero2 needs launch\.zero_stage"):
        with_sharding(composed(deepspeed="zero2"), FACTS, needed)
    chosen, notes = with_sharding(composed(deepspeed="zero2", zero_stage=2), FACTS, needed)
    assert chosen.config.launch.deepspeed == "zero2" and notes == ()


def test_fsdp_is_an_alternative_to_deepspeed_and_counts_as_zero_3():
    for both in ({"zero_stage": 2}, {"deepspeed": "auto"}, {"deepspeed": "zero3", "zero_stage": 3}):
        with pytest.raises(ConfigError, match=r"launch\.fsdp=true splits the model without DeepSpeed"):
            with_sharding(composed(fsdp=True, **{"deepspeed": ""} | both), FACTS, needed)
    chosen, notes = with_sharding(composed(fsdp=True, deepspeed=""), FACTS, needed)
    assert chosen.config.launch.fsdp and notes == ()
    assert [split_as(launch) for launch in ({}, {"zero_stage": 2}, {"zero_stage": -1, "fsdp": True})] == [-1, 2, 3]


def test_the_device_is_the_setting_or_a_share_of_what_is_free():
    launch = composed(device_gib=3).config.launch
    assert device_bytes(launch) == (3 * GIB, "launch.device_gib")
    found, source = device_bytes(replace(launch, device_gib=0.0))
    assert found > 0 and source


def test_offloaded_bytes_by_hand():
    assert [offloaded_bytes(name, 1001, 2) for name in TEMPLATES] == [0, 0, 501 * 8, 0, 501 * 12, 501 * 12]


def test_where_the_optimiser_lies_changes_no_fingerprint():
    one, other = (
        identity_of_settings(composed(**launch).plain, "stage")
        for launch in ({"deepspeed": ""}, {"device_gib": 9, "nvme_path": "/x"})
    )
    assert one == other
