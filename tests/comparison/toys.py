"""Contenders whose answers are known, for the tests of those who read them."""

from unspool.comparison._contenders import SCRIPTS, Contender

ANSWER = """
import sys
sys.path.insert(0, {scripts!r})
import numpy as np
from measure import Contender, main

class Toy(Contender):
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


def toy(folder, name="toy", change="pass", longer="pass", text=ANSWER):
    """Write the script of a contender that answers what lies in the folder, and return the contender.

    `Problem` objects of the test put it there by `save_right`.
    """
    script = folder / f"{name}.py"
    filled = text.format(scripts=str(SCRIPTS), folder=str(folder), change=change, longer=longer)
    script.write_text(filled if text is ANSWER else text)
    return Contender(name, "dynamic", "toy", str(script), "")
