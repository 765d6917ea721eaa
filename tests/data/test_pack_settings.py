"""Options of a pack: read into a dataclass, checked, with near misses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from factory.contracts import DataRequest
from factory.errors import ConfigError
from factory.packs.generated import indices, stream, system_prompt
from factory.packs.settings import check_shares, one_of, read_settings, within


@dataclass(frozen=True)
class Options:
    mode: str = "text"
    depth: int = 2
    share: float = 0.5
    strict: bool = False
    limit: float | None = None
    names: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)


def read(**raw):
    return read_settings(Options, raw, pack="geology", also=("seed_rocks",))


def test_values_arrive_in_the_types_of_the_dataclass():
    made = read(depth=3, share=1, names=["a", "b"], shares={"x": 1}, limit=4, strict=True)
    assert made == Options(depth=3, share=1.0, names=("a", "b"), shares={"x": 1.0}, limit=4.0, strict=True)
    assert isinstance(made.share, float) and isinstance(made.limit, float) and read(limit=None).limit is None
    assert read(seed_rocks=1) == Options(), "a key of the pack's other reader is passed over"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"moed": "text"}, "pack.moed is no option of the geology pack. Did you mean 'mode'"),
        ({"depth": 2.5}, "pack.depth is 2.5; want a whole number"),
        ({"depth": True}, "want a whole number"),
        ({"share": True}, "want a number"),
        ({"strict": 1}, "want true or false"),
        ({"mode": 3}, "want text"),
        ({"names": "a"}, "want a list"),
        ({"names": [1]}, "an item of pack.names is 1; want text"),
        ({"shares": {"x": "much"}}, "pack.shares.x is 'much'; want a number"),
        ({"limit": "none"}, "want float or null"),
    ],
)
def test_wrong_values_are_named_with_what_is_wanted(raw, says):
    with pytest.raises(ConfigError) as caught:
        read(**raw)
    assert says in str(caught.value)


def test_ranges_and_choices():
    within("pack.share", 0.5, 0, 1)
    one_of("pack.mode", "text", ("text", "image"))
    check_shares({"a": 2}, ("a", "b"))
    for call, says in [
        (lambda: within("pack.share", float("nan"), 0, 1), "finite number from 0 to 1"),
        (lambda: within("pack.share", -1, 0, float("inf")), "finite number from 0."),
        (lambda: one_of("pack.mode", "txt", ("text", "image")), "Did you mean 'text'"),
        (lambda: check_shares({"c": 1}, ("a", "b")), "a key of pack.shares is 'c'"),
        (lambda: check_shares({"a": 0}, ("a", "b")), "no task a share above 0"),
    ]:
        with pytest.raises(ConfigError) as caught:
            call()
        assert says in str(caught.value)


def test_items_are_numbered_by_limit_and_have_their_own_streams():
    assert len(indices("samples", "test", DataRequest(), {"samples": 7})) == 7
    assert len(indices("samples", "test", DataRequest(limit=3), {"samples": 7})) == 3
    with pytest.raises(ConfigError, match="want one of train, validation, test"):
        indices("samples", "tset", DataRequest(), {"samples": 7})
    draws = {stream(*key)[0].random() for key in [("a", "corpus", "train", 0, 0), ("a", "samples", "train", 0, 0),
             ("b", "corpus", "train", 0, 0), ("a", "corpus", "test", 0, 0), ("a", "corpus", "train", 1, 0), ("a", "corpus", "train", 0, 1)]}  # fmt: skip
    assert len(draws) == 6 and stream("a", "corpus", "train", 0, 0)[1] == "a-corpus-train-0-0"


def test_prompts_are_rendered_strictly(tmp_path):
    (tmp_path / "expert.jinja").write_text("You read {{ what }}.\n")
    assert system_prompt(tmp_path, "expert", what="rocks") == "You read rocks."
    with pytest.raises(ConfigError, match="Prompts: expert"):
        system_prompt(tmp_path, "exprt")
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        system_prompt(tmp_path, "expert")
