"""What hostile verifiers do, by name. Run by worker processes only: never call one of these in the test process.

`DEEDS` maps a name to (function, expected). `expected` is (status, part of the reason) of the guilty verdict; for a vandal, who
gives a sound verdict and leaves damage behind, the status is `ok`. Every deed is harmless by
itself: bombs are bounded, nothing is removed but what the deed made, and no signal goes to a process that is not its own, whatever
the pool enforces or a mutation of it no longer does.
"""

import builtins
import contextlib
import ctypes
import decimal
import gc
import mmap
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from factory.contracts import Status, Verdict
from factory.rewards.pool_wire import pack_frame, verdict_to_json

FINE = Verdict(1.0, Status.ok, "fine")
DEEDS = {}


def deed(status, reason=""):
    """Register a deed under its function's name."""

    def keep(function):
        DEEDS[function.__name__] = (function, (status, reason))
        return function

    return keep


def lie(name, value, reason):
    """A deed that returns a value which is no sound verdict."""
    DEEDS[name] = (lambda completion, sample: value(), ("error", reason))


def forged(**fields):
    """A Verdict whose checks were gone round."""
    verdict = Verdict(0.5, Status.ok, "fine")
    for name, value in fields.items():
        object.__setattr__(verdict, name, value)
    return verdict


# --- it never ends ------------------------------------------------------------------------------------------------------


@deed("timeout", "pool.timeout_s")
def sleeps_forever(completion, sample):
    while True:
        time.sleep(1000)


@deed("timeout")
def busy_loop(completion, sample):
    while True:
        pass


@deed("timeout")
def busy_in_c(completion, sample):
    """One C call that holds the interpreter lock for hours and checks no signal."""
    return 3 ** (10**9)


@deed("timeout")
def redos(completion, sample):
    return re.match(r"(a+)+$", "a" * 60 + "!")


@deed("timeout")
def waits_for_a_lock(completion, sample):
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@deed("timeout")
def ignores_every_signal(completion, sample):
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    time.sleep(1000)


@deed("timeout")
def swallows_its_alarm(completion, sample):
    """What a time limit by SIGALRM would run into."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    while True:
        try:
            time.sleep(10)
        except BaseException:
            continue


@deed("timeout")
def deaf_in_c(completion, sample):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.PyDLL(None).sleep(1000)


@deed("timeout")
def stops_itself(completion, sample):
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


@deed("timeout")
def dribbles_on_the_wire(completion, sample):
    """A byte now and then is a sign of life, not a verdict."""
    fd = int(sys.argv[1])
    os.write(fd, (1 << 16).to_bytes(4, "big"))
    while True:
        os.write(fd, b" ")
        time.sleep(0.05)


@deed("timeout")
def lies_about_the_time(completion, sample):
    """Write a begin in the far future into the shared progress record."""
    shared = mmap.mmap(int(sys.argv[2]), 16)
    number, _ = struct.unpack_from("<qd", shared)
    while True:
        struct.pack_into("<qd", shared, 0, number, time.monotonic() + 1e6)
        time.sleep(0.01)


@deed("timeout")
def unending_mapping(completion, sample):
    class Endless(dict):
        def items(self):
            while True:
                yield "same", 1.0

    return forged(parts=Endless())


@deed("timeout")
def exits_again_and_again(completion, sample):
    while True:
        try:
            sys.exit(1)
        except SystemExit:
            continue


# --- it takes too much --------------------------------------------------------------------------------------------------


@deed("error", "pool.memory_mib")
def allocates_50_gib(completion, sample):
    return bytearray(50 << 30)


@deed("error", "pool.memory_mib")
def allocates_in_steps(completion, sample):
    hoard = []
    for _ in range(256):  # 2 GiB, should the limit fail
        hoard.append(bytearray(8 << 20))


@deed("error", "File too large")
def prints_gigabytes(completion, sample):
    line = "x" * (1 << 20)
    for _ in range(2048):
        print(line, flush=True)


@deed("error", "File too large")
def fills_the_disk(completion, sample):
    with open("big", "wb") as file:
        for _ in range(256):  # 256 MiB, should the limit fail
            file.write(bytes(1 << 20))


@deed("error", "RecursionError")
def endless_recursion(completion, sample):
    return endless_recursion(completion, sample)


@deed("error", "SIGSEGV")
def recursion_in_c(completion, sample):
    """Overflow the C stack."""
    sys.setrecursionlimit(10**9)
    kind = ctypes.CFUNCTYPE(None)
    held = []

    def again():
        held[0]()

    held.append(kind(again))
    again()


@deed("error", "processes in one call")
def fork_bomb(completion, sample):
    """Every process forks until it is refused. Should the limit fail, some three hundred are the end of it."""
    first, count = os.getpid(), mmap.mmap(-1, 8)
    while int.from_bytes(count[:8], "little") < 300:
        count[:8] = (int.from_bytes(count[:8], "little") + 1).to_bytes(8, "little")
        try:
            os.fork()
        except BlockingIOError:
            if os.getpid() == first:
                raise
            time.sleep(1000)
    time.sleep(1000)


@deed("error", "processes in one call")
def spawn_bomb(completion, sample):
    for _ in range(100):
        subprocess.Popen(["sleep", "1000"])
    return FINE


@deed("error", "OSError")
def opens_every_file(completion, sample):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    hoard = [open(os.devnull) for _ in range(1000)]  # noqa: SIM115
    return hoard


# --- it ends the process ------------------------------------------------------------------------------------------------


@deed("error", "exit status 3; it last printed: going now")
def exits_hard(completion, sample):
    print("going now", flush=True)
    os._exit(3)


@deed("error", "exit status 0")
def exits_as_if_done(completion, sample):
    os._exit(0)


@deed("error", "SIGSEGV")
def segfaults(completion, sample):
    ctypes.string_at(0)


@deed("error", "its worker ended with")
def aborts(completion, sample):
    ctypes.CDLL(None).abort()


# --- it raises ----------------------------------------------------------------------------------------------------------


def raiser(name, make, reason):
    """A deed that raises."""

    def act(completion, sample):
        raise make()

    DEEDS[name] = (act, ("error", reason))


class Odd(BaseException):
    """Caught by no `except Exception`."""


class Rude(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise Odd("no message")


raiser("raises_exception", lambda: KeyError("no such gold"), "KeyError: 'no such gold'")
raiser("raises_base_exception", lambda: BaseException("all of it"), "BaseException: all of it")
raiser("raises_odd_base", lambda: Odd("mine"), "Odd: mine")
raiser("raises_keyboard_interrupt", KeyboardInterrupt, "KeyboardInterrupt")
raiser("raises_system_exit", lambda: SystemExit(0), "SystemExit: 0")
raiser("raises_generator_exit", GeneratorExit, "GeneratorExit")
raiser("raises_stop_iteration", StopIteration, "StopIteration")
raiser("raises_unshowable", Rude, "its message raised Odd")
raiser("raises_a_huge_message", lambda: ValueError("x" * 10**7), "ValueError: xxx")
raiser("raises_surrogates", lambda: ValueError("\ud800\x00\u202e"), "ValueError: ?")
raiser("raises_group", lambda: BaseExceptionGroup("many", [KeyboardInterrupt()]), "BaseExceptionGroup")
raiser("raises_memory_error", MemoryError, "pool.memory_mib")

# --- it lies ------------------------------------------------------------------------------------------------------------


class Evil(float):
    """A number that says of itself that it is in range."""

    def __le__(self, other):
        return True

    __ge__ = __lt__ = __gt__ = __le__


class NumpyLike:
    """Behaves as a numpy scalar would, and is no float."""

    def __float__(self):
        return 0.5


def numpy_score(kind):
    """A numpy scalar where a score belongs."""
    import numpy

    return forged(score=getattr(numpy, kind)(1))


lie("returns_none", lambda: None, "NoneType, not a Verdict")
lie("returns_a_float", lambda: 1.0, "float, not a Verdict")
lie("returns_a_bool", lambda: True, "bool, not a Verdict")
lie("returns_a_text", lambda: "1.0", "str, not a Verdict")
lie("returns_a_tuple", lambda: (1.0, "ok", ""), "tuple, not a Verdict")
lie("returns_two", lambda: [FINE, FINE], "list, not a Verdict")
lie("returns_a_dict", lambda: {"score": 1.0}, "dict, not a Verdict")
lie("returns_the_class", lambda: Verdict, "type, not a Verdict")
lie("returns_a_generator", lambda: (FINE for _ in "x"), "generator, not a Verdict")
lie("returns_a_lock", threading.Lock, "lock, not a Verdict")
lie("score_nan", lambda: forged(score=float("nan")), "score nan")
lie("score_inf", lambda: forged(score=float("inf")), "score inf")
lie("score_minus_inf", lambda: forged(score=float("-inf")), "score -inf")
lie("score_high", lambda: forged(score=1.0000001), "score 1.0000001")
lie("score_low", lambda: forged(score=-1e-9), "score -1e-09")
lie("score_huge_int", lambda: forged(score=10**400), "not a number in [0, 1]")
lie("score_none", lambda: forged(score=None), "score None")
lie("score_text", lambda: forged(score="1"), "score '1'")
lie("score_bool", lambda: forged(score=True), "score True")
lie("score_complex", lambda: forged(score=1j), "score 1j")
lie("score_list", lambda: forged(score=[1.0]), "score [1.0]")
lie("score_numpy_float32", lambda: numpy_score("float32"), "not a number in [0, 1]")
lie("score_numpy_int64", lambda: numpy_score("int64"), "not a number in [0, 1]")
lie("score_object", lambda: forged(score=NumpyLike()), "not a number in [0, 1]")
lie("score_evil_float", lambda: forged(score=Evil(7.0)), "")
lie("status_text", lambda: forged(status="ok"), "status 'ok'")
lie("status_none", lambda: forged(status=None), "status None")
lie("reason_bytes", lambda: forged(reason=b"fine"), "reason b'fine'")
lie("parts_list", lambda: forged(parts=[1.0]), "list, not a mapping")
lie("parts_nan", lambda: forged(parts={"x": float("nan")}), "part 'x' = nan")
lie("parts_key", lambda: forged(parts={1: 0.5}), "part 1")
lie("parts_too_many", lambda: forged(parts={str(i): 0.5 for i in range(10**5)}), "more than 256 parts")

# --- it reaches for others ----------------------------------------------------------------------------------------------


def refused(attempt):
    """Make an attempt that must be refused; the error is the guilty verdict's reason."""
    attempt()
    return FINE


@deed("error")
def kills_everybody(completion, sample):
    """SIGKILL to all that it may signal, where that can only be its own; else it tries a signal that does nothing."""
    if os.getppid() == 0:  # the first process of a namespace
        os.kill(-1, signal.SIGKILL)
        os._exit(5)
    os.kill(os.getppid(), 0)


@deed("error", "nonsense on its socket")
def garbage_on_the_wire(completion, sample):
    os.write(int(sys.argv[1]), b"\xff" * 64)
    time.sleep(1000)


@deed("error", "nonsense on its socket")
def nested_on_the_wire(completion, sample):
    body = b'{"replies":' + b"[" * 100_000
    os.write(int(sys.argv[1]), len(body).to_bytes(4, "big") + body)
    time.sleep(1000)


@deed("error", "nonsense on its socket")
def a_fatal_word_on_the_wire(completion, sample):
    """What only a worker that could not load its pack may say."""
    os.write(int(sys.argv[1]), pack_frame({"fatal": "stop the run"}))
    time.sleep(1000)


@deed("error", "nonsense on its socket")
def anothers_verdict_on_the_wire(completion, sample):
    row = [10**6, verdict_to_json(FINE), 0.0, False, ""]
    os.write(int(sys.argv[1]), pack_frame({"replies": [row]}))
    time.sleep(1000)


@deed("error", "nonsense on its socket")
def a_huge_number_on_the_wire(completion, sample):
    body = b'{"replies":[[0,{"score":' + b"9" * 400 + b',"status":"ok","reason":"","parts":{}},0,false,""]]}'
    os.write(int(sys.argv[1]), len(body).to_bytes(4, "big") + body)
    time.sleep(1000)


@deed("error", "its worker ended with")
def closes_every_file(completion, sample):
    os.closerange(0, 256)
    return FINE


@deed("error", "may not use the network")
def uses_the_network(completion, sample):
    return refused(lambda: socket.create_connection(("127.0.0.1", 9), timeout=1))


@deed("error", "may not use the network")
def looks_up_a_name(completion, sample):
    return refused(lambda: socket.getaddrinfo("localhost", 80))


# --- it gives a sound verdict and leaves damage behind --------------------------------------------------------------------


@deed("ok")
def changes_folder(completion, sample):
    """To a harmless place: a deed must do no harm even where the pool fails to undo the one before it."""
    os.chdir(tempfile.gettempdir())
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    return FINE


@deed("ok")
def removes_its_folder(completion, sample):
    """Remove an empty folder that this call made and stands in. Never a recursive removal: the folder might be another."""
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    return FINE


@deed("ok")
def patches_builtins(completion, sample):
    builtins.len = lambda _: 7
    builtins.open = None
    return FINE


@deed("ok")
def seeds_random(completion, sample):
    random.seed(99)
    return FINE


@deed("ok")
def clears_the_environment(completion, sample):
    os.environ.clear()
    return FINE


@deed("ok")
def closes_stdout(completion, sample):
    sys.stdout.close()
    return FINE


@deed("ok")
def closes_stdin(completion, sample):
    sys.stdin.close()
    return FINE


@deed("error", "RuntimeError: traced")
def leaves_a_trace_hook(completion, sample):
    sys.settrace(lambda *_: (_ for _ in ()).throw(RuntimeError("traced")))
    return FINE


@deed("ok")
def leaves_a_timer(completion, sample):
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    return FINE


@deed("ok")
def leaves_threads(completion, sample):
    for _ in range(4):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return FINE


@deed("ok")
def leaves_a_busy_thread(completion, sample):
    def spin():
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return FINE


@deed("ok")
def leaves_a_child(completion, sample):
    subprocess.Popen(["sleep", "987654"])
    return FINE


@deed("ok")
def leaves_a_daemon(completion, sample):
    """A child of a session of its own, so that no signal to the group reaches it."""
    subprocess.Popen(["sleep", "987654"], start_new_session=True)
    return FINE


@deed("ok")
def leaves_files(completion, sample):
    Path("left.txt").write_text("left")
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"left")
    locked = Path(tempfile.mkdtemp())
    (locked / "inner").mkdir()
    locked.chmod(0)
    return FINE


@deed("ok")
def lowers_the_limits(completion, sample):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return FINE


@deed("ok")
def stops_collecting(completion, sample):
    gc.disable()
    sys.setrecursionlimit(120)
    return FINE


@deed("ok")
def prints_a_lot(completion, sample):
    print("x" * (8 << 20), flush=True)
    return FINE


@deed("ok")
def changes_signals(completion, sample):
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    return FINE


@deed("ok")
def changes_precision(completion, sample):
    decimal.getcontext().prec = 2
    sys.path.clear()
    return FINE
