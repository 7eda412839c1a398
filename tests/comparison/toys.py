"""Contenders whose answers are known, for the tests of those who read them."""

from unspool.comparison._contenders import SCRIPTS, Contender

ANSWER = """
import sys
sys.path.insert(0, {scripts!r})
import numpy as np
from protocol import Peer, main

class Toy(Peer):
    def place(self, batch):
        print("noise on the standard output")
        return len(batch.inputs)
    def build(self, placed):
        self.first = placed
    def run(self, steps):
        if steps > self.first:
            {longer}
        return dict(np.load({folder!r} + f"/right-{{steps}}.npz"))
    def results(self, values):
        {change}
        return values
    def nodes(self):
        return 7

main(Toy, {{"toy": "1.0"}})
"""


def toy(folder, name="toy", change="pass", longer="pass"):
    """Write the script of a contender that answers what lies in the folder, and return the contender."""
    script = folder / f"{name}.py"
    script.write_text(ANSWER.format(scripts=str(SCRIPTS), folder=str(folder), change=change, longer=longer))
    return Contender(name, "dynamic", "toy", str(script), "")
