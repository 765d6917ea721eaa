"""A model behind an address: retries, resume, concurrency, secrets, and the whole measurement in two shapes."""

import json
import logging
import time
from collections import Counter
from pathlib import Path

import pytest
from openai_server import Server, said

from factory.config.compose import compose
from factory.contracts import IMAGE, Media, Message
from factory.errors import ConfigError, ModelError
from factory.evaluation.endpoint import Asking, Endpoint, as_parts, is_loopback, open_endpoint
from factory.evaluation.run import Wanted, against, measure, questions
from factory.plugins import load_pack

KEY = "sk-very-secret-42"


@pytest.fixture
def serve():
    running = []

    def start(reply):
        running.append(Server(reply))
        return running[-1]

    yield start
    for server in running:
        server.close()


def ask(server, waits, **more):
    endpoint = Endpoint(server.base, "m1", wait=waits.append, **more)
    return endpoint.ask([Message("user", "hi")], [], Asking(8, 0.5, 0.9), seed=7)


def test_a_busy_server_is_asked_again_and_its_wish_to_wait_is_kept(serve):
    waits = []
    server = serve(
        lambda body, n: (
            said("yes", "length")
            if n > 2
            else (429 if n == 1 else 503, {"error": "busy"}, {"Retry-After": "3"} if n == 1 else {})
        )
    )
    answer = ask(server, waits)
    assert (answer.text, answer.tokens, answer.finished) == ("yes", 3, False)
    assert waits[0] == 3.0 and 0.4 < waits[1] <= 1.0
    assert server.requests[0] == {
        "model": "m1",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 8,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
    }


def test_a_refusal_is_not_repeated_and_a_dead_server_is_given_up(serve):
    waits = []
    server = serve(lambda body, n: (400, {"error": {"message": "no such model"}}, {}))
    with pytest.raises(ModelError, match="no such model"):
        ask(server, waits)
    assert len(server.requests) == 1 and not waits
    with pytest.raises(ModelError, match="failed 6 times"):
        Endpoint("http://127.0.0.1:9/v1", "m", wait=waits.append).ask([Message("user", "x")], [], Asking(1), 0)
    assert len(waits) == 5


def test_the_key_is_sent_and_told_to_nobody(serve, caplog):
    server = serve(lambda body, n: (401, {"error": f"bad key {KEY}"}, {}) if n > 1 else (500, {"error": f"oops {KEY}"}, {}))
    with caplog.at_level(logging.DEBUG), pytest.raises(ModelError) as caught:
        ask(server, [], api_key=KEY)
    assert server.keys == [f"Bearer {KEY}"] * 2
    assert KEY not in str(caught.value) and "***" in str(caught.value) and KEY not in caplog.text
    assert KEY not in repr(Endpoint("x", "m", KEY))


def test_redirects_are_not_followed(serve):
    other = serve(lambda body, n: said("stolen"))
    server = serve(lambda body, n: (307, {}, {"Location": f"{other.base}/chat/completions"}))
    with pytest.raises(ModelError, match="307"):
        ask(server, [], api_key=KEY)
    assert not other.requests


def test_other_machines_need_leave_and_keys_need_tls():
    for host, near in (
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
    ):
        assert is_loopback(host) is near
    with pytest.raises(ConfigError, match="Add --online"):
        open_endpoint("https://api.example/v1", "m", key_env=None, online=False)
    with pytest.raises(ConfigError, match="unencrypted"):
        open_endpoint("http://api.example/v1", "m", key_env="K", online=True, env={"K": KEY})
    with pytest.raises(ConfigError, match="not set or empty"):
        open_endpoint("http://127.0.0.1/v1", "m", key_env="K", online=False, env={})
    with pytest.raises(ConfigError, match="name, password or query"):
        open_endpoint("http://me:pw@127.0.0.1/v1", "m", key_env=None, online=False)


def test_images_stand_where_their_placeholders_stood():
    (row,) = as_parts([Message("user", f"a{IMAGE}b{IMAGE}")], [Media(data=b"\x89PNG1"), Media(data=b"\xff\xd82")])
    assert [part["type"] for part in row["content"]] == ["text", "image_url", "text", "image_url"]
    assert (
        row["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
        and "image/jpeg" in row["content"][3]["image_url"]["url"]
    )


def wanted(*overrides, **more):
    plain = compose("biology", overrides=["eval.samples=6", "eval.bootstrap=200", *overrides]).plain
    return Wanted("biology", plain, **more)


@pytest.fixture(scope="module")
def gold():
    """Question -> a right answer, of the six that are asked."""
    return {
        sample.text(): f"<think>so</think><answer>{sample.reference}</answer>"
        for sample in questions(wanted(), load_pack("biology"))
    }


def test_a_measurement_goes_on_where_the_server_fell_over(serve, gold, tmp_path):
    def reply(body, number):
        time.sleep(0.02)
        if number in (3, 4, 5, 6) and not state["is_well"]:
            return 400, {"error": "fell over"}, {}
        return said(gold.get(body["messages"][-1]["content"], "?"))

    state = {"is_well": False}
    server = serve(reply)
    asked = wanted(concurrency=2)
    with pytest.raises(ModelError, match="fell over"):
        measure(Endpoint(server.base, "m1"), "m1", asked, tmp_path)
    (file,) = tmp_path.glob("*/answers.jsonl")
    kept = len(file.read_text().splitlines()) - 1
    assert 0 < kept < 6
    state["is_well"] = True
    before = len(server.requests)
    found = measure(Endpoint(server.base, "m1"), "m1", asked, tmp_path)
    assert len(server.requests) - before == 6 - kept and server.most == 2
    assert found["splits"]["test"]["primary"]["n"] == 6
    assert measure(Endpoint(server.base, "m1"), "m1", asked, tmp_path)["splits"] == found["splits"], "a finished one asks nothing"
    assert len(server.requests) - before == 6 - kept


def test_sampled_attempts_give_avg_and_pass_and_pair_with_an_earlier_measurement(serve, gold, tmp_path):
    def reply(body, number):
        right = gold.get(body["messages"][-1]["content"], "?")
        return said(right if body["seed"] % 4 == 0 else "zzz")

    server = serve(reply)
    start = wanted().plain["eval"]["seed"]
    assert start % 4 == 0
    assert len(gold) == 6
    good = measure(Endpoint(server.base, "m1"), "m1", wanted(attempts=4, temperature=0.8), tmp_path)
    figures, share = good["attempts_figures"], good["splits"]["test"]["primary"]["value"]
    assert share > 0.5
    assert figures["pass@4"]["value"] == share and figures["avg@4"]["value"] == pytest.approx(share / 4)
    assert Counter(body["seed"] - start for body in server.requests) == {number: 6 for number in range(4)}
    bad_server = serve(lambda body, n: said("zzz"))
    bad = measure(Endpoint(bad_server.base, "m1"), "m2", wanted(), tmp_path)
    pair = against(Path(bad["folder"]), Path(good["folder"]), resamples=200, seed=0)
    assert pair["n"] == 6 and pair["diff"] == pytest.approx(figures["avg@4"]["value"])
    results = json.loads(next(Path(good["folder"]).glob("lm_eval/results_*.json")).read_text())
    row = results["results"]["factory_biology"]
    assert row[f"{good['eval']},none"] == pytest.approx(figures["avg@4"]["value"])
    assert results["factory"]["eval"]["attempts"] == 4


def test_several_greedy_attempts_are_refused():
    with pytest.raises(ConfigError, match="asks the same thing again"):
        wanted(attempts=3).check()
