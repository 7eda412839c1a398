"""Who takes part, and with which Python each is run."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unspool.comparison._errors import ComparisonError

SCRIPTS = Path(__file__).parent / "peers"

LIBRARIES = {"tensorflow": "TensorFlow", "jax": "JAX"}
"""Names of the environments that are not this one, and of what is in them."""


@dataclass(frozen=True)
class Contender:
    """One way to train an LSTM over sequences, which a peer runs in a process of its own.

    Attributes
    ----------
    name : str
    kind : {"dynamic", "static"}
    library : str
    script : str
        A file among `peers/`; empty for this library's own.
    variant : str
        Which form of the script's peer.
    environment : str
        A name among `LIBRARIES`; empty for this Python.
    """

    name: str
    kind: Literal["dynamic", "static"]
    library: str
    script: str
    variant: str
    environment: str = ""

    def command(self, python: str) -> list[str]:
        """Return what runs its peer.

        Parameters
        ----------
        python : str
            See `find_python`.
        """
        if not self.script:
            return [python, "-c", "from unspool.comparison.peers.unspool_layer import start; start()"]
        return [python, str(SCRIPTS / self.script)]


COMPILED = "torch.compile of the loop"

CONTENDERS = (
    Contender("unspool dynamic", "dynamic", "unspool", "", "dynamic"),
    Contender("unspool static", "static", "unspool", "", "static"),
    Contender("torch loop", "dynamic", "torch", "torch_loops.py", "loop"),
    Contender("torch nn.LSTM, padded", "dynamic", "torch", "torch_loops.py", "layer"),
    Contender(COMPILED, "static", "torch", "torch_loops.py", "compiled"),
    Contender("TensorFlow dynamic_rnn", "dynamic", "tensorflow", "tensorflow1.py", "dynamic", "tensorflow"),
    Contender("TensorFlow static_rnn", "static", "tensorflow", "tensorflow1.py", "static", "tensorflow"),
    Contender("Keras unroll=False", "dynamic", "keras", "keras_layers.py", "looped", "tensorflow"),
    Contender("Keras unroll=True", "static", "keras", "keras_layers.py", "unrolled", "tensorflow"),
    Contender("JAX scan", "dynamic", "jax", "jax_scan.py", "1", "jax"),
    Contender("JAX scan, unroll=8", "dynamic", "jax", "jax_scan.py", "8", "jax"),
    Contender("JAX scan, unroll=T", "static", "jax", "jax_scan.py", "all", "jax"),
)


def environments() -> Path:
    """Return the folder of the Pythons that have other libraries: UNSPOOL_PEERS, or what `make peers` makes."""
    return Path(os.environ.get("UNSPOOL_PEERS") or ".peers")


def find_python(environment: str, given: Path | None = None) -> str:
    """Return the Python that has a library; empty if there is none.

    Parameters
    ----------
    environment : str
        A name among `LIBRARIES`, or empty for this Python.
    given : Path, optional
        Named by the user; else it is looked for among `environments`.

    Raises
    ------
    ComparisonError
        If one is named and is not there.
    """
    if not environment:
        return sys.executable
    if given is not None:
        if not os.access(given, os.X_OK) or given.is_dir():
            raise ComparisonError(
                f"received {given} as the Python that has {LIBRARIES[environment]}; expected the path of a program. "
                "`make peers` makes one"
            )
        return str(given.absolute())
    made = environments() / environment / "bin" / "python"
    return str(made.absolute()) if made.exists() else ""


def missing(environment: str) -> str:
    """Return why a contender cannot take part where `find_python` finds nothing.

    Parameters
    ----------
    environment : str
    """
    return (
        f"no Python with {LIBRARIES[environment]} in {environments()} (`make peers` makes one; name the folder by "
        f"UNSPOOL_PEERS, or the Python by --{environment})"
    )


def select(names: tuple[str, ...]) -> tuple[Contender, ...]:
    """Return the contenders of these names, in the order of the table; all for none.

    Parameters
    ----------
    names : tuple of str

    Raises
    ------
    ComparisonError
        If one is unknown.
    """
    known = [contender.name for contender in CONTENDERS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ComparisonError(f"received the contenders {unknown}; expected some of {', '.join(map(repr, known))}")
    return tuple(contender for contender in CONTENDERS if not names or contender.name in names)
