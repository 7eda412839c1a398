"""Make mistakes in the library one at a time, and see whether the tests that are to find them do.

    python -m tests.mutants              # all of them
    python -m tests.mutants schedule     # those with this word in their names

Each is made in a temporary copy of the tree, in which the tests named beside it run until one fails: it is *killed*, or
else it has *survived*. The same tests must pass on the copy as it is. A mutant that changes nothing says why in
`listed.py`, and must survive. For one in `native/` the engine is compiled, in `build/mutants`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.mutants.listed import MUTANTS, Mutant
from tests.mutants.processes import OWN_PATHS, run_tests

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "mutants"
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "shared")


class Failure(Exception):
    """What keeps a mutant from being judged."""


def copy_tree(to: Path, engine: Path) -> Path:
    """Copy the tree, with the engine that is installed."""
    shutil.copytree(ROOT, to, ignore=LEFT_OUT)
    shutil.copy2(engine, to / "src" / "unspool" / engine.name)
    (to / "sitecustomize.py").write_text(OWN_PATHS, encoding="utf-8")
    return to


def mutated(mutant: Mutant, text: str) -> str:
    """Return the text with the mistake in it."""
    found = text.count(mutant.old)
    if found != 1:
        raise Failure(f"its text is found {found} times in {mutant.file}; the list must follow the code")
    return text.replace(mutant.old, mutant.new)


def build_engine(mutant: Mutant, name: str) -> Path:
    """Compile the engine with a mistake in it; what can stay as it was for the next one does."""
    for path in [ROOT / "CMakeLists.txt", *(ROOT / "native").rglob("*.*")]:
        to = BUILD / "source" / path.relative_to(ROOT)
        text = path.read_text(encoding="utf-8")
        text = mutated(mutant, text) if path == ROOT / mutant.file else text
        if not to.is_file() or to.read_text(encoding="utf-8") != text:  # a build looks at the time of the last change
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(text, encoding="utf-8")
    tools, build = BUILD / "tools", BUILD / "build"
    commands = [
        ["cmake", "-S", BUILD / "source", "-B", build, f"-DPython_EXECUTABLE={sys.executable}"],
        ["cmake", "--build", build, "--target", "_engine", "--parallel", "2"],
    ]
    if not tools.is_dir():
        pip = "-m pip install --quiet --disable-pip-version-check nanobind --target".split()
        commands.insert(0, [sys.executable, *pip, tools])
    for command in commands:
        environment = {**os.environ, "PYTHONPATH": str(tools)}
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"the engine cannot be compiled: {(done.stdout + done.stderr)[-2000:]}")
    return build / name


def judge(mutant: Mutant, tree: Path, engine: str) -> str:
    """Return what became of a mutant, in words; the tree is left as it was."""
    native = mutant.file.startswith("native/")
    path = tree / "src" / "unspool" / engine if native else tree / mutant.file
    before = path.read_bytes()
    after = build_engine(mutant, engine).read_bytes() if native else mutated(mutant, before.decode()).encode()
    try:
        path.unlink()
        path.write_bytes(after)
        status, printed = run_tests(tree, mutant.tests)
    finally:
        path.unlink()
        path.write_bytes(before)
    if status == 0:
        return "survived"
    by = re.search(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)
    if by is None and status in (0, 1, 2, 3, 4, 5):
        raise Failure(f"the tests cannot be run: {printed[-2000:]}")
    return f"killed by {by[1] if by else f'the end of the process: {status}'}"


def main() -> None:
    """Judge the mutants that are named, and end with 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="of names or files of mutants; all without any")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--no-baseline", action="store_true", help="do not run the tests without a mutant first")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.words or any(w in f"{m.name} {m.file}" for w in options.words)]
    if not chosen:
        parser.error(f"no mutant has {' or '.join(options.words)} in its name")
    find = "import unspool._engine; print(unspool._engine.__file__)"
    engine = Path(subprocess.run([sys.executable, "-c", find], check=True, capture_output=True, text=True).stdout[:-1])

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as place, ThreadPoolExecutor(options.jobs) as pool:
        trees: Queue[Path] = Queue()
        for number in range(options.jobs):
            trees.put(copy_tree(Path(place) / str(number), engine))

        def unmutated(tests: str) -> None:
            tree = trees.get()
            status, printed = run_tests(tree, tests)
            trees.put(tree)
            if status:
                raise SystemExit(f"{tests} fails without any mutant:\n{printed[-3000:]}")

        def one(mutant: Mutant) -> None:
            tree, start = trees.get(), time.monotonic()
            try:
                found = judge(mutant, tree, engine.name)
            except Failure as failure:
                found = f"error: {failure}"
            trees.put(tree)
            verdict = found.split()[0].rstrip(":")
            if mutant.equal and verdict == "survived":
                verdict, found = "changes nothing", f"changes nothing: {mutant.equal}"
            elif mutant.equal and verdict == "killed":
                verdict, found = "error", f"error: said to change nothing, and {found}"
            counts[verdict] += 1
            print(f"{time.monotonic() - start:6.1f} s  {mutant.name}: {found}", flush=True)

        if not options.no_baseline:
            list(pool.map(unmutated, dict.fromkeys(m.tests for m in chosen)))
        list(pool.map(one, [m for m in chosen if not m.file.startswith("native/")]))
        # Those of the engine one after another: they share what is compiled.
        list(map(one, [m for m in chosen if m.file.startswith("native/")]))
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    sys.exit(bool(counts["survived"] or counts["error"]))


if __name__ == "__main__":
    main()
