"""A real server process, asked by the official openai client; and the terminal chat."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from PIL import Image  # noqa: E402

from factory.contracts import IMAGE, Media, Message  # noqa: E402
from factory.errors import DataError  # noqa: E402
from factory.serving.answerer import Answerer, Wish, _certain, _cut, collected  # noqa: E402
from factory.stages.models.generate import generate  # noqa: E402
from factory.stages.models.load import load  # noqa: E402

ROOT = Path(__file__).parents[2]


def png(colour=(200, 150, 180)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **more}


def run_factory(*words, **options):
    return [sys.executable, "-c", "from factory.cli.app import main; main()", *words]


@pytest.fixture(scope="module")
def server(vl_base, tmp_path_factory):
    """(base address, key) of `factory serve` on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            run_factory("serve", str(vl_base), "--port", str(port), "--name", "eyes", "--engine", "transformers", "--api-key-env", "MY_KEY"),
            env=environment(MY_KEY="secret", FACTORY_HOME=str(log.parent)), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="secret", max_retries=0)
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                client.models.list()
                break
            except openai.APIConnectionError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) is not None


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server, api_key="secret", max_retries=0)


def question(text="the cat sat", image=None):
    if image is None:
        return [{"role": "user", "content": text}]
    url = "data:image/png;base64," + base64.b64encode(image).decode()
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]}]


def greedy(base, messages, media=(), length=12):
    """The answer of the evals' own decode loop."""
    loaded = load(base, precision="fp32")
    [one] = generate(
        loaded, [loaded.codec.prompt(messages, media)], max_new_tokens=length, temperature=0.0, generator=torch.Generator()
    )
    return loaded.codec.completion(one.ids)


def test_the_official_client_gets_what_the_evals_would_measure(client, vl_base):
    assert [model.id for model in client.models.list().data] == ["eyes"]
    for image in (None, png()):
        reply = client.chat.completions.create(model="eyes", messages=question(image=image), max_tokens=12, temperature=0)
        turn = Message("user", f"{IMAGE}the cat sat" if image else "the cat sat")
        assert reply.choices[0].message.content == greedy(vl_base, [turn], (Media(data=image),) if image else ())
        assert reply.choices[0].finish_reason in ("stop", "length") and reply.usage.prompt_tokens > 0


def test_a_stream_gives_the_same_text_piece_by_piece(client):
    wish = {"model": "eyes", "messages": question(), "max_tokens": 12, "temperature": 0.8, "seed": 5}
    whole = client.chat.completions.create(**wish)
    events = list(client.chat.completions.create(**wish, stream=True, stream_options={"include_usage": True}))
    assert "".join(event.choices[0].delta.content or "" for event in events if event.choices) == whole.choices[0].message.content
    assert [event.choices[0].finish_reason for event in events if event.choices][-1] == whole.choices[0].finish_reason
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_completions_several_answers_and_stop_texts(client):
    reply = client.completions.create(model="eyes", prompt="the cat sat", max_tokens=8, n=3, temperature=1.5, seed=1)
    assert len(reply.choices) == 3 and len({choice.text for choice in reply.choices}) > 1
    whole = client.completions.create(model="eyes", prompt="the cat sat", max_tokens=8, temperature=0).choices[0].text
    if len(whole) > 3:
        cut = client.completions.create(model="eyes", prompt="the cat sat", max_tokens=8, temperature=0, stop=whole[2:4]).choices[
            0
        ]
        assert cut.text == whole[: whole.index(whole[2:4])] and cut.finish_reason == "stop"


def test_bad_requests_and_wrong_keys_are_refused_in_the_clients_own_terms(client, server):
    with pytest.raises(openai.BadRequestError, match="temperature is 9"):
        client.chat.completions.create(model="eyes", messages=question(), temperature=9)
    with pytest.raises(openai.BadRequestError, match="not 'other'"):
        client.chat.completions.create(model="other", messages=question())
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="eyes", messages=question("cat " * 5000), stream=True)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server, api_key="wrong", max_retries=0).models.list()
    import urllib.error
    import urllib.request

    for data in (b"{broken", b"[1]", b'{"messages": [' + b"[" * 100_000):
        request = urllib.request.Request(f"{server}/chat/completions", data, {"Authorization": "Bearer secret"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        assert caught.value.code == 400


def test_many_clients_at_once_and_one_that_hangs_up(client):
    stream = client.chat.completions.create(model="eyes", messages=question(), max_tokens=100, stream=True, temperature=1)
    next(iter(stream))
    stream.close()
    with ThreadPoolExecutor(6) as pool:
        replies = list(
            pool.map(
                lambda _: client.chat.completions.create(model="eyes", messages=question(), max_tokens=6, temperature=0), range(6)
            )
        )
    assert len({reply.choices[0].message.content for reply in replies}) == 1


def test_listening_to_the_world_needs_a_key(vl_base, tmp_path):
    for words, says in (
        (["--host", "0.0.0.0"], "lets other machines in"),
        (["--api-key-env", "NO_SUCH_KEY"], "not set"),
        (["--engine", "vlm"], "want one of auto, transformers, vllm"),
    ):
        ended = subprocess.run(run_factory("serve", str(vl_base), *words), env=environment(FACTORY_HOME=str(tmp_path)), capture_output=True, text=True)  # fmt: skip
        assert ended.returncode == 2 and says in ended.stderr


def test_the_command_for_vllm_is_shown(vl_base, tmp_path):
    ended = subprocess.run(run_factory("serve", str(vl_base), "--dry-run", "--name", "eyes"), env=environment(FACTORY_HOME=str(tmp_path)), capture_output=True, text=True)  # fmt: skip
    assert ended.stdout.split() == [
        "vllm",
        "serve",
        str(vl_base),
        "--served-model-name",
        "eyes",
        "--host",
        "127.0.0.1",
        "--port",
        "8000",
    ]


def test_chat_answers_lines_with_images_and_survives_a_missing_one(vl_base, tmp_path):
    (tmp_path / "x.png").write_bytes(png())
    lines = f"/image {tmp_path / 'x.png'}\nthe cat sat\n/image nowhere.png\n/new\nthe cat sat\n/quit\nnever read\n"
    ended = subprocess.run(
        run_factory("chat", str(vl_base), "--max-new-tokens", "8"), input=lines.encode(), env=environment(FACTORY_HOME=str(tmp_path)), capture_output=True,
    )  # fmt: skip
    said = ended.stdout.decode().split("\n")
    turns = [Message("user", f"{IMAGE}\nthe cat sat")], [Message("user", "the cat sat")]
    media = (Media(data=png()),), ()
    expected = "\n".join(greedy(vl_base, turn, images, 8) for turn, images in zip(turns, media, strict=True))
    assert "\n".join(said).strip("\n") == expected.strip("\n") and b"no such picture" in ended.stderr and ended.returncode == 0


def test_text_is_shown_only_when_it_is_certain():
    assert _cut("abcENDdef", ("END", "d")) == ("abc", True) and _cut("abc", ("x",)) == ("abc", False)
    assert _certain("abcEN", ("END",)) == "abc" and _certain("abc\ufffd", ()) == "abc" and _certain("abc", ("x",)) == "abc"


def test_a_prompt_without_room_is_refused(vl_base):
    with pytest.raises(DataError, match="Shorten it"):
        collected(Answerer(vl_base).answer(Wish((Message("user", "cat " * 5000),))))
