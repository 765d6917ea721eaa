"""Model-written programs: refused without a sandbox, and kept inside it where there is one."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from factory.contracts import Sample, Status
from factory.errors import ConfigError
from factory.rewards import programs, sandbox
from factory.rewards.programs import ProgramAnswer, read_program
from factory.rewards.sandbox import Ended, Limits, SandboxMissing, command, find, run_program

SQUARES = [{"stdin": "3\n", "stdout": "9\n"}, {"stdin": "4", "stdout": "16"}]
CALLS = [{"call": [2], "result": 4}, {"call": [3], "result": 9}]


def has_sandbox() -> bool:
    """Whether bubblewrap works on this machine."""
    try:
        find()
    except SandboxMissing:
        return False
    return True


needs_bwrap = pytest.mark.skipif(not has_sandbox(), reason="no working bubblewrap here (apt install bubblewrap)")


def judged(source, tests=SQUARES, **settings):
    completion = f"<think>x</think>Here it is:\n```python\n{source}\n```"
    settings = {"limits": Limits(time_s=2)} | settings
    return ProgramAnswer(**settings)(completion, Sample("s", "t", (), tests))


@pytest.fixture
def no_bwrap(monkeypatch, tmp_path):
    """No bubblewrap on the path; the next test looks again."""
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.find.cache_clear()
    yield
    sandbox.find.cache_clear()


def test_without_a_sandbox_nothing_runs_and_the_verdict_is_a_masked_error(no_bwrap, tmp_path, monkeypatch):
    trace = tmp_path / "ran"
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    verdict = judged(f"open({str(trace)!r}, 'w')")
    assert verdict.status is Status.error and verdict.status.is_masked
    assert (
        verdict.reason.startswith("refused: model-written programs run only in bubblewrap")
        and "Install bubblewrap" in verdict.reason
    )
    assert not trace.exists()


def test_a_bubblewrap_that_does_not_work_is_refused_with_its_own_words(no_bwrap, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(SandboxMissing, match="does not work here: No permissions to create new namespace"):
        find()


def test_the_command_line_gives_nothing_away():
    words = command(
        "bwrap", ["x"], Limits(time_s=2.5, memory_mib=64, file_mib=4, processes=8), 7, "/usr/bin/python3", ["/opt/py"]
    )
    assert words[:2] == ["bwrap", "--unshare-all"] and {"--die-with-parent", "--new-session", "--clearenv"} <= set(words)
    assert words[words.index("--cap-drop") + 1] == "ALL"
    assert "--share-net" not in words and "--bind" not in words and "--dev-bind" not in words
    bound = [words[i + 1] for i, word in enumerate(words) if word in ("--ro-bind", "--ro-bind-try")]
    assert "/opt/py" in bound and not {"/", "/home", "/root", "/etc", "/tmp", "/var", "/run"} & set(bound)
    assert words[words.index("--ro-bind-data") + 1] == "7"
    # 2.5 s of time are 3 s of CPU; 64 MiB, 4 MiB, 8 processes, no other user; then the program and its argument.
    assert words[-7:] == ["3", str(64 << 20), str(4 << 20), "8", "0", "/program.py", "x"]
    assert words[words.index("--") + 1 :][:4] == ["/usr/bin/python3", "-I", "-S", "-B"]


def test_the_last_fenced_block_is_the_program():
    assert read_program("a\n```python\nx = 1\n```\nb\n```py\nx = 2\n```") == "x = 2"
    assert read_program("print(1)") == "print(1)"
    assert read_program(" ") is None and read_program("x" * 200_000) is None


@pytest.mark.parametrize(
    "tests", [None, [], "x", [{}], [{"stdin": "1"}], [{"call": 3, "result": 9}], [SQUARES[0]] * 21, [{**SQUARES[0], **CALLS[0]}]]
)
def test_faulty_tests_are_the_samples_fault(tests):
    with pytest.raises(ValueError):
        judged("print(1)", tests)


def test_wrong_settings_are_refused():
    for make in (
        lambda: Limits(time_s=0),
        lambda: Limits(memory_mib=1),
        lambda: ProgramAnswer(entry="a b"),
        lambda: ProgramAnswer(language="c"),
    ):
        with pytest.raises(ConfigError):
            make()


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (Ended(None, b"", b"", "time"), "ran longer than 2 s"),
        (Ended(None, b"9", b"", "output"), "wrote more than"),
        (Ended(-11, b"9", b"boom\nsegfault"), "ended with status -11: segfault"),
        (Ended(0, b"8\n", b""), "printed '8', want '9'"),
        (Ended(0, b"\xff\xfe", b""), "printed"),
    ],
)
def test_each_end_has_its_reason(monkeypatch, ended, reason):
    monkeypatch.setattr(programs, "run_program", lambda *_, **__: ended)
    verdict = judged("whatever")
    assert (verdict.status, verdict.score) == (Status.wrong, 0.0) and reason in verdict.reason


def test_a_result_counts_only_when_it_comes_back_from_the_call(monkeypatch):
    for out, score in (
        (b"\x1eresult:4", 1.0),
        (b"4", 0.0),
        (b"\x1eresult:", 0.0),
        (b"\x1eresult:[[[", 0.0),
        (b"\x1eresult:5", 0.0),
    ):
        monkeypatch.setattr(programs, "run_program", lambda *_, out=out, **__: Ended(0, out, b""))
        assert judged("whatever", CALLS[:1]).score == score


def test_the_expected_results_never_enter_the_sandbox(monkeypatch):
    seen = []
    monkeypatch.setattr(
        programs, "run_program", lambda text, stdin, limits: seen.append(text.encode() + stdin) or Ended(0, b"", b"")
    )
    judged("pass", [{"stdin": "1", "stdout": "SECRET"}])
    judged("pass", [{"call": [1], "result": "SECRET"}])
    assert len(seen) == 2 and not any(b"SECRET" in entered for entered in seen)


@needs_bwrap
def test_right_programs_pass():
    assert judged("print(int(input())**2)").score == 1.0
    assert judged("def solve(x):\n    print('noise')\n    return x * x", CALLS).score == 1.0
    half = judged("def solve(x):\n    return 4", CALLS, all_or_nothing=False)
    assert (half.score, half.status) == (0.5, Status.wrong)


HOSTILE = {
    "exits early": ("import os; os._exit(0)", CALLS),
    "prints a result": ("print('\\x1eresult:9'); import os; os._exit(0)", CALLS),
    "loops": ("while True: pass", SQUARES),
    "floods": ("while True: print('x' * 1000)", SQUARES),
    "network": ("import socket; socket.create_connection(('192.0.2.1', 53), 1); print(9)", SQUARES),
    "reads the host": ("print(open('/etc/passwd').read())", SQUARES),
    "writes the host": ("open('/usr/lib/x', 'w')", SQUARES),
    "memory": ("x = ' ' * (4 << 30); print(9)", SQUARES),
    "forks": ("import os\nwhile True: os.fork()", SQUARES),
    "segfault": ("import ctypes; ctypes.string_at(0)", SQUARES),
    "fills the disk": ("open('/tmp/a', 'wb').write(b'x' * (100 << 20)); print(9)", SQUARES),
    "raises its limits": ("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); print(9)", SQUARES),
    "kills": ("import os, signal; os.kill(-1, signal.SIGKILL)", SQUARES),
    "closes its streams": ("import os; os.close(0); os.close(1); os.close(2)", SQUARES),
    "not utf-8": ("import sys; sys.stdout.buffer.write(b'\\xff' * 10)", SQUARES),
    "syntax": ("def (", SQUARES),
}


@needs_bwrap
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_earn_nothing_and_end_in_time(name):
    began = time.monotonic()
    verdict = judged(*HOSTILE[name])
    assert (verdict.status, verdict.score) == (Status.wrong, 0.0), verdict
    assert time.monotonic() - began < 8.0


# Never without end: where the limit did not bind, it would starve the machine.
MANY = """
import os, time
got = 0
for _ in range(2000):
    try:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
    except OSError:
        break
    got += 1
print(got)
"""


@needs_bwrap
def test_a_program_gets_as_many_processes_as_its_limit_and_no_more_root_included():
    for limit in (4, 16):
        ended = run_program(MANY, limits=Limits(time_s=30, processes=limit))
        assert ended.code == 0 and 1 <= int(ended.out) < limit, ended


@needs_bwrap
def test_two_programs_at_a_time_do_not_count_as_one():
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda _: run_program(MANY, limits=Limits(time_s=30)), range(2)))
    assert [one.code for one in ended] == [0, 0] and ended[0].out == ended[1].out, ended


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root is exempt from the limit on processes")
def test_where_the_limit_cannot_bind_nothing_is_run(monkeypatch):
    # A user name space alone, in which the program's user still is root to the kernel.
    monkeypatch.setattr(sandbox, "spare_user", lambda: 0)
    sandbox.find.cache_clear()
    try:
        with pytest.raises(SandboxMissing, match=r"limit on processes does not bind here.*32 were started where fewer than 8"):
            run_program("print(1)")
    finally:
        sandbox.find.cache_clear()


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="a program of another user runs as that user already")
def test_a_program_that_root_runs_is_not_root():
    ended = run_program(
        "import os\nids = os.getresuid() + os.getresgid()\nassert 0 not in ids and not os.getgroups()\n"
        "try:\n    os.setuid(0)\nexcept PermissionError:\n    open('/tmp/own', 'w').write('x'); print('stays')",
        limits=Limits(time_s=30),
    )
    assert (ended.code, ended.out) == (0, b"stays\n"), ended


@needs_bwrap
def test_no_secret_and_no_process_is_left(monkeypatch):
    monkeypatch.setenv("API_TOKEN", "secret")
    inside = run_program(
        "import os, json; print(json.dumps([dict(os.environ), os.listdir('/home') if os.path.exists('/home') else [], os.getpid()]))",
        limits=Limits(time_s=30),
    )
    assert inside.code == 0, inside
    environment, homes, pid = json.loads(inside.out)
    assert "API_TOKEN" not in environment and homes == [] and pid < 10
    mark = f"leftover-{os.getpid()}"
    left = run_program(
        f"import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(60)  # {mark}\nprint('done')", limits=Limits(time_s=2)
    )
    assert left.code == 0 or left.stopped == "time"
    time.sleep(0.3)
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    ).stdout
    assert "bwrap" not in children
