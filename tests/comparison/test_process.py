"""Processes that crash, take too long, or say something else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bare_packages import bare
from unspool.comparison._process import PeerError, PeerProcess

READY = 'print(\'{"versions": {"toy": "1.0"}}\', flush=True); input()\n'


def ask(text, limit_s=30.0):
    """Start a program and ask it once; return its versions and its answer."""
    with PeerProcess([sys.executable, "-c", text], limit_s, 1) as peer:
        return peer.versions, peer.ask("to build", "prepare", arrays=Path("a.npz"))


def failure(text, limit_s=30.0):
    with pytest.raises(PeerError) as caught:
        ask(text, limit_s)
    return caught.value


def test_requests_are_answered():
    assert ask(READY + "print('{\"seconds\": 1.5}')") == ({"toy": "1.0"}, {"seconds": 1.5})
    echo = READY.replace("input()", "print(input())")
    assert ask(echo)[1] == {"do": "prepare", "arrays": "a.npz"}


def test_a_crash_says_its_last_words():
    assert str(failure("1 / 0")) == "ended with code 1 to start: ZeroDivisionError: division by zero"
    found = failure(READY + "raise ValueError('no such thing')")
    assert str(found) == "ended with code 1 to build: ValueError: no such thing"
    assert (found.told, found.over_limit) == ("", False)


def test_an_end_without_a_word():
    assert str(failure("import os; os._exit(3)")) == "ended with code 3 to start: no message"
    assert str(failure(READY + "import os; os.kill(os.getpid(), 9)")) == "ended with code -9 to build: no message"


def test_an_error_that_is_told():
    found = failure(READY + 'print(\'{"error": "ValueError: \\\\u001b"}\')')
    assert str(found) == "failed to build: ValueError: \\x1b"
    assert found.told == "ValueError: \\x1b"


def test_one_that_takes_too_long_is_ended():
    found = failure("import time; time.sleep(600)", limit_s=0.5)
    assert found.over_limit
    assert str(found) == "more than 0.5 s to start"


@pytest.mark.parametrize("line", ["garbage", "[1]", "1"])
def test_garbage_is_no_answer(line):
    assert str(failure(READY + f"print({line!r})")).startswith(f"said {line!r}; expected what it took to build")


def test_it_computes_on_the_cpu_with_so_many_threads():
    tell = "import json, os; print(json.dumps(dict(os.environ)))"
    _, told = ask(READY + tell)
    assert (told["OMP_NUM_THREADS"], told["CUDA_VISIBLE_DEVICES"], told["JAX_PLATFORMS"]) == ("1", "", "cpu")


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({path!r}, "w").write(str(child.pid))
time.sleep(600)
"""


def started(path: Path) -> int:
    """Wait for the number of the process that a child has started."""
    for _ in range(300):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.1)
    raise TimeoutError(path)


def ended(pid: int) -> bool:
    """Wait until a process is gone, or is what is left of one until its parent looks."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.1)
    return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")


@needs_proc
def test_what_it_has_started_is_ended_too(tmp_path):
    with PeerProcess([sys.executable, "-c", READY + PARENT.format(path=str(tmp_path / "pid"))], 30.0, 1) as peer:
        peer.limit_s = 0.5
        with pytest.raises(PeerError) as caught:
            peer.ask("to build", "prepare")
    assert caught.value.over_limit
    assert ended(started(tmp_path / "pid"))


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_an_interruption(number, tmp_path):
    text = bare("unspool", "unspool.comparison") + (
        "from unspool.comparison._process import PeerProcess, signals_as_exit\n"
        "with signals_as_exit():\n"
        f"    PeerProcess([sys.executable, '-c', {PARENT.format(path=str(tmp_path / 'pid'))!r}], 600.0, 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.DEVNULL)
    pid = started(tmp_path / "pid")
    os.kill(process.pid, number)
    process.wait(60)
    assert ended(pid)
