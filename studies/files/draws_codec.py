"""Draws of curves as JSON: how a curves file writes them and how it reads them, with numpy alone.

    {"a": "..", "b": "..", "c": "..", "n0": "..", "nodes": [n, ..], "bend": ".."}

a, b, c and n0 have one number a draw, little-endian floats of 32 bits in base64, because most of a file is draws and an
answer would wait for numbers in words; lists of numbers are read too, as files of schema 2 have them. ``bend`` (see
studies/files/draws.py) has for each of ``nodes`` a whole number a draw, in ten-thousandths of a score, finer than any
score is known: little-endian, 16 bits, node after node, in base64. n0 (which lacks where it is 0) and bend may lack.
A further arm has nodes and a bend alone: they are what is added to scratch's law.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from studies.files.draws import Floats

_PARAMETERS, _NUMBER = ("a", "b", "c", "n0"), "<f4"
_PER_UNIT, _STORED = 10_000, "<i2"  # bends a score; a bend of more than a score says no more than one of a score
_ROOM = 1_850_000  # bytes for all draws of a file, which stays under 2 MB: few have all nodes
_BYTES_PER_DRAW = 105  # of both arms, with a dozen nodes
_BYTES_PER_BEND = 40  # of a further arm, with up to fifteen nodes
_MOST, _FEWEST = 1000, 160
_POOLED_TIMES = 3  # as many draws as of a single task
_STEEPEST, _LARGEST = 10.0, 10**15  # exponents and numbers beyond these are damage


def affordable_draws(
    n_curves: int, n_further: int = 0, n_pooled: int = 0, n_pooled_further: int = 0
) -> tuple[int, int]:
    """Return how many draws of each of ``n_curves`` curves a file can hold, and of each of ``n_pooled`` pooled ones.

    With those of their further arms, counted together. Pooled curves, which most answers are read from, get more.
    """
    of_one, of_pooled = (
        _BYTES_PER_DRAW * curves + _BYTES_PER_BEND * further
        for curves, further in ((n_curves, n_further), (n_pooled, n_pooled_further))
    )
    single = _ROOM // max(of_one + _POOLED_TIMES * of_pooled, 1)
    return max(_FEWEST, min(_MOST, single)), max(_FEWEST, min(_MOST, _POOLED_TIMES * single))


def write_draws(arms: Mapping[str, Mapping[str, Floats]], kept: int) -> dict[str, dict[str, Any]]:
    """Return the first ``kept`` draws of every arm, ready for JSON (draws come in no order)."""
    written: dict[str, dict[str, Any]] = {}
    for arm, draws in arms.items():
        written[arm] = {
            name: b2a_base64(draws[name][:kept].astype(_NUMBER).tobytes(), newline=False).decode()
            for name in _PARAMETERS
            if name != "n0" or draws[name].any()
        }
        if "bend" in draws:
            written[arm] |= write_bend(draws, kept)
    return written


def write_bend(draws: Mapping[str, Floats], kept: int) -> dict[str, Any]:
    """Return the nodes and the first ``kept`` bends of an arm, ready for JSON; a further arm has no more of its own."""
    bend = np.rint(np.clip(draws["bend"][:kept].T, -1, 1) * _PER_UNIT).astype(_STORED)
    return {
        "nodes": [float(f"{n:.6g}") for n in draws["nodes"]],
        "bend": b2a_base64(bend.tobytes(), newline=False).decode(),
    }


def read_draws(written: Mapping[str, Any]) -> dict[str, Floats]:
    """Read the draws of one arm. Raises ValueError, KeyError or TypeError for what does not draw a learning curve."""
    draws = {name: _numbers(written[name]) for name in "abc"}
    draws["n0"] = _numbers(written["n0"]) if "n0" in written else np.zeros(len(draws["a"]))
    if len({len(values) for values in draws.values()}) != 1 or not len(draws["a"]):
        raise ValueError("the parameters of a curve differ in their number of draws")
    a, b, c, n0 = draws["a"], draws["b"], draws["c"], draws["n0"]
    if not ((a > 0) & (a <= 1) & (b >= 0) & (c > 0) & (c < _STEEPEST) & (n0 >= 0)).all():
        raise ValueError("a parameter draw is not a learning curve")
    if "bend" in written:
        draws |= _read_bend(written, len(a))
    return draws


def read_further(written: Mapping[str, Any], scratch: Mapping[str, Floats]) -> dict[str, Floats]:
    """Read the draws of a further arm, whose law is that of ``scratch``. Raises as ``read_draws`` does."""
    law = {name: scratch[name] for name in _PARAMETERS}
    return law | _read_bend(written, len(law["a"]))


def _read_bend(written: Mapping[str, Any], n_draws: int) -> dict[str, Floats]:
    nodes = _numbers(written["nodes"])
    bend = np.frombuffer(a2b_base64(written["bend"]), _STORED) / _PER_UNIT
    if bend.size != len(nodes) * n_draws or len(nodes) < 2 or (np.abs(bend) > 1).any():
        raise ValueError("the bend of a curve does not fit its nodes and draws")
    if nodes[0] <= 0 or (np.diff(nodes) <= 0).any():
        raise ValueError("the nodes of a curve are not ascending numbers of records")
    return {"nodes": nodes, "bend": bend.reshape(len(nodes), n_draws).T}


def _numbers(values: Sequence[float] | str) -> Floats:
    given: Any = np.frombuffer(a2b_base64(values), _NUMBER) if isinstance(values, str) else values
    try:
        numbers = np.asarray(given, np.float64)
    except ValueError:  # also of lists of different lengths, in numpy's many words
        raise ValueError("something else stands where the number of a parameter draw belongs") from None
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or (np.abs(numbers) > _LARGEST).any():
        raise ValueError("a parameter draw is not a finite number")
    return numbers
