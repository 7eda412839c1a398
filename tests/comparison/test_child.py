"""Processes that crash, take too long, or say something else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unspool.comparison._child import run_child

TOLD = 'print(\'{"stage": "ready", "versions": {}}\', flush=True)\n'


def run(text, limit_s=30.0, wanted=("ready", "build")):
    return run_child([sys.executable, "-c", text], wanted, limit_s, 1)


def test_stages_are_read_in_order():
    told = run(TOLD + 'print(\'{"stage": "build", "seconds": 1.5}\')')
    assert told.status == "finished"
    assert told.stages == {"ready": {"versions": {}}, "build": {"seconds": 1.5}}


def test_a_crash_says_its_last_words():
    told = run(TOLD + "raise ValueError('no such thing')")
    assert told.status == "failed"
    assert list(told.stages) == ["ready"]
    assert told.reason == "ended with code 1 to build: ValueError: no such thing"


def test_an_end_without_a_word():
    assert run("import os; os._exit(3)").reason == "ended with code 3 to start: no message"
    assert run(TOLD + "import os; os.kill(os.getpid(), 9)").reason == "ended with code -9 to build: no message"


def test_one_that_takes_too_long_is_ended():
    told = run("import time; time.sleep(600)", limit_s=0.5)
    assert told.status == "over_limit"
    assert told.stages == {}
    assert told.reason == "more than 0.5 s to start"


@pytest.mark.parametrize("line", ["garbage", "[1]", "1", '{"seconds": 1}', '{"stage": "first", "seconds": 1}'])
def test_garbage_is_no_answer(line):
    told = run(TOLD + f"print({line!r})")
    assert told.status == "failed"
    assert told.reason.startswith(f"said {line!r}; expected what it took to build")


def test_it_computes_on_the_cpu_with_so_many_threads():
    text = "import os; assert os.environ['OMP_NUM_THREADS'] == '1' and os.environ['CUDA_VISIBLE_DEVICES'] == ''\n"
    assert run(text + TOLD, wanted=("ready",)).status == "finished"


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
    told = run(PARENT.format(path=str(tmp_path / "pid")), limit_s=3.0)
    assert told.status == "over_limit"
    assert ended(started(tmp_path / "pid"))


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_an_interruption(number, tmp_path):
    text = (
        "import sys\nfrom unspool.comparison._child import run_child\n"
        f"run_child([sys.executable, '-c', {PARENT.format(path=str(tmp_path / 'pid'))!r}], ('ready',), 600.0, 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", text], stderr=subprocess.DEVNULL)
    pid = started(tmp_path / "pid")
    os.kill(process.pid, number)
    process.wait(60)
    assert ended(pid)
