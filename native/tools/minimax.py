"""Coefficients of the polynomials in vecmath_impl.hpp: `python native/tools/minimax.py` prints them (needs mpmath).

Weighted least squares over Chebyshev nodes: within a factor of two of the best polynomial, and every one of these has
that much to spare against the rounding of its evaluation.
"""

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60
NODES = 120


def rounded(value: mp.mpf, single: bool) -> mp.mpf:
    """`value` in the engine's precision."""
    code = "f" if single else "d"
    return mp.mpf(struct.unpack(code, struct.pack(code, float(value)))[0])


def fit(name: str, f: Callable, weight: Callable, low: float, high: float, terms: int, single: bool) -> None:
    """Print coefficients of `f` over `[low, high]`, lowest power first."""
    middle, half = (mp.mpf(low) + high) / 2, (mp.mpf(high) - low) / 2
    nodes = [middle - half * mp.cos(mp.pi * (i + mp.mpf(1) / 2) / NODES) for i in range(NODES)]
    values, weights = [f(x) for x in nodes], [weight(x) for x in nodes]
    fixed: list[mp.mpf] = []
    # Each coefficient is rounded before the rest is fitted again, so that the later ones make up for its rounding.
    for done in range(terms):
        rows = [[w * x**k for k in range(done, terms)] for x, w in zip(nodes, weights, strict=True)]
        rest = [
            w * (y - mp.polyval(fixed[::-1], x) if fixed else y) for x, y, w in zip(nodes, values, weights, strict=True)
        ]
        solution, _ = mp.qr_solve(mp.matrix(rows), mp.matrix(rest))
        fixed.append(rounded(solution[0], single))
    error = max(w * abs(mp.polyval(fixed[::-1], x) - y) for x, y, w in zip(nodes, values, weights, strict=True))
    print(f"{name}, {'float' if single else 'double'}: weighted error {mp.nstr(error, 3)}")
    print("    {" + ", ".join(f"{float(c):.9g}f" if single else f"{float(c):.17g}" for c in fixed) + "}")


def main() -> None:
    """Print every polynomial of the engine."""
    for single in (True, False):
        # e^r = 1 + r + r^2 q(r), relative to r because expm1 uses it too
        fit("exp", lambda r: (mp.expm1(r) - r) / r**2, abs, -0.347, 0.347, 5 if single else 10, single)
        # log(1 + f) = 2 s + s z q(z) with s = f / (2 + f) and z = s^2, which stays below 0.02944
        fit(
            "log",
            lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z,
            lambda z: z,
            1e-9,
            0.02945,
            3 if single else 7,
            single,
        )
    # erf(x) = x + x q(x^2) up to 0.93
    fit("erf, small", lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, lambda _: mp.mpf(1), 1e-9, 0.865, 6, True)
    # erf(t) = 1 - exp(-(t + t q(t))) from 0.93 to 4
    fit("erf, large", lambda t: -mp.log(mp.erfc(t)) / t - 1, lambda t: t * mp.erfc(t), 0.93, 4.0, 7, True)


if __name__ == "__main__":
    main()
