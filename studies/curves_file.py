"""The curves file: everything that ``recommend`` needs, small, readable with json and numpy alone.

Written by ``studies.evidence``, read here. ``schema_version`` counts changes that older readers cannot take.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
FINE_TUNE, SCRATCH = "fine-tune", "scratch"
REACH = 4.0  # beyond so many times the measured range no answer is given
_MEASURED_WITHIN = 0.10

Floats = NDArray[np.float64]
Support = Literal["measured", "interpolated", "extrapolated", "beyond"]


class CurvesFileError(ValueError):
    """A curves file that is missing, damaged or too new; one sentence says which and what to do."""


@dataclass(frozen=True)
class Network:
    """A network that the evidence measured."""

    name: str
    family: str
    parameters: int


@dataclass(frozen=True)
class PairedCurve:
    """Both arms of one task, network and upstream: parameter draws, the measured points, and what a run costs.

    ``draws[strategy]`` has the arrays a, b, c of ``score(n) = a - b n ** -c``; draw i of one strategy belongs to draw
    i of the other. ``points[strategy]`` maps a size to the scores of its replicates.
    """

    task: str
    arch: str
    family: str
    upstream: str
    metric: str
    sizes: tuple[int, ...]
    replicates: int
    runs: int
    draws: Mapping[str, Mapping[str, Floats]]
    noise: Mapping[str, float]
    points: Mapping[str, Mapping[int, tuple[float, ...]]]
    cost: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]

    def scores(self, strategy: str, n_records: NDArray[Any] | float) -> Floats:
        """Return the expected score of each draw, shape (draws, sizes), at the given numbers of records."""
        p = self.draws[strategy]
        n = np.atleast_1d(np.asarray(n_records, np.float64))
        return np.asarray(p["a"][:, None] - p["b"][:, None] * n[None, :] ** -p["c"][:, None], np.float64)

    def run_sd(self, n_records: float) -> float:
        """Return the standard deviation of a single run's score about its expectation."""
        return float(np.exp(self.noise["alpha"] - self.noise["gamma"] * np.log(n_records)))

    def support(self, n_records: float) -> Support:
        """Say how near to measured sizes ``n_records`` lies."""
        low, high = min(self.sizes), max(self.sizes)
        if any(abs(n_records - size) <= _MEASURED_WITHIN * size for size in self.sizes):
            return "measured"
        if low <= n_records <= high:
            return "interpolated"
        return "extrapolated" if low / REACH <= n_records <= high * REACH else "beyond"


@dataclass(frozen=True)
class CurvesFile:
    """An opened curves file."""

    study: str
    version: str
    created: str
    networks: Mapping[str, Network]
    registered: Mapping[str, str]
    family_default: Mapping[str, str]
    upstreams: Mapping[str, str]
    provenance: Mapping[str, Any]
    curves: tuple[PairedCurve, ...]


def read_curves(path: Path) -> CurvesFile:
    """Read a curves file. Raises CurvesFileError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CurvesFileError(f"no curves file at {path}") from None
    except OSError as error:
        raise CurvesFileError(f"cannot read the curves file {path}: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CurvesFileError(f"{path} is damaged or no curves file: {error}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise CurvesFileError(f"{path} is no curves file: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise CurvesFileError(
            f"{path} has curves schema {version}, and this ecgadvise reads up to {SCHEMA_VERSION}: update ecgadvise"
        )
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CurvesFileError(f"{path} is damaged: {reason}") from None


def _parse(document: Mapping[str, Any]) -> CurvesFile:
    networks = {
        name: Network(name, str(facts["family"]), int(facts["parameters"]))
        for name, facts in document["networks"].items()
    }
    text = {name: str(document[name]) for name in ("study", "version", "created")}
    return CurvesFile(
        **text,
        networks=networks,
        registered=dict(document["registered"]),
        family_default=dict(document["family_default"]),
        upstreams=dict(document["upstreams"]),
        provenance=dict(document["provenance"]),
        curves=tuple(_parse_curve(curve) for curve in document["curves"]),
    )


def _parse_curve(curve: Mapping[str, Any]) -> PairedCurve:
    draws = {arm: {name: _numbers(values) for name, values in curve["draws"][arm].items()} for arm in curve["draws"]}
    if set(draws) != {SCRATCH, FINE_TUNE}:
        raise ValueError(f"a curve has the strategies {sorted(draws)}")
    lengths = {len(p[name]) for p in draws.values() for name in ("a", "b", "c")}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError("the parameters of a curve differ in their number of draws")
    sizes = tuple(int(n) for n in curve["sizes"])
    if not sizes or min(sizes) < 1:
        raise ValueError("a curve has no positive sizes")
    points = {
        arm: {int(n): tuple(map(float, values)) for n, values in by_size.items()}
        for arm, by_size in curve["points"].items()
    }
    text = {name: str(curve[name]) for name in ("task", "arch", "family", "upstream", "metric")}
    return PairedCurve(
        **text,
        sizes=sizes,
        replicates=int(curve["replicates"]),
        runs=int(curve["runs"]),
        draws=draws,
        noise={name: float(curve["noise"][name]) for name in ("alpha", "gamma", "correlation")},
        points=points,
        cost=dict(curve["cost"]),
        warnings=tuple(map(str, curve["warnings"])),
    )


def _numbers(values: Sequence[float]) -> Floats:
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise ValueError("a parameter draw is not a finite number")
    return numbers
