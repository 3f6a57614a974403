"""The curves file: everything that ``recommend`` needs, small, readable with json and numpy alone.

Written by ``studies.collection.collect``, read here. ``schema_version`` counts changes that older readers cannot take.
A curve that does not say its precision is of float32: before there was another, nothing did. What a curve knows of
further arms is under a key of its own, ``further_arms``, which older readers pass over; so are ``classes``, what single
classes scored from scratch, and ``label_levels``, what labels say of a new dataset's scores.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np

from models.errors import ExitCode, UserError, decoding_fault
from studies.files.arms import FINE_TUNE, FURTHER_STRATEGIES, SCRATCH
from studies.files.curve import Curve, MeasuredCurve, PooledCurve, PretrainingCost, TrainingCost
from studies.files.draws import Floats, chance_level, no_fall_beyond
from studies.files.draws_codec import read_draws, read_further
from studies.files.label_levels import LabelLevels, read_levels
from studies.files.precision import FLOAT32

# 2: draws may have n0 and a bend, a curve may be pooled, have one strategy, lack cost; 3: draws may be in base64
SCHEMA_VERSION = 3
RELEASED = "zoo:"  # before the name of a network that runs start from and no run of the study pre-trained
_WEIGHTS = re.compile(r"\bweights ([0-9a-f]{12})\b")
FAMILIES = {"cnn", "rnn", "other"}
_LARGEST = 10**15  # numbers beyond this are damage
_ROUNDED = 1e-5  # of a variance
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls, halves of characters


class CurvesFileError(UserError, ValueError):
    """A curves file that is missing, damaged or too new; one sentence says which and what to do."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class Network:
    """A network that the evidence measured; ``parameters`` is None where nobody said how many."""

    name: str
    family: str
    parameters: int | None


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
    curves: tuple[Curve, ...]

    @property
    def measured(self) -> tuple[MeasuredCurve, ...]:
        """The curves of tasks that were run."""
        return tuple(curve for curve in self.curves if isinstance(curve, MeasuredCurve))

    def spelled(self, arch: str) -> str:
        """Return a network or family as this file spells it, whatever the case of the name; what it lacks stays."""
        names = ("cnn", "rnn", *self.family_default, *self.registered, *self.networks)
        known = {name.lower(): name for name in names}
        base, _, width = arch.lower().rpartition("-w")
        if arch.lower() in known:
            return known[arch.lower()]
        return f"{known[base]}-w{width}" if base in known and width.isdigit() else arch

    def parts_of(self, pool: PooledCurve) -> tuple[MeasuredCurve, ...]:
        """Return the curves that a pool was made of, one a task: without its labels, then that with most runs."""
        kinds = {one: one.kind or one.upstream for one in self.measured if pool.is_made_of(one)}
        mine = [one for one, kind in kinds.items() if pool.upstream in (kind, corpus_of(kind), one.upstream)]
        mine.sort(key=lambda one: (is_disjoint(kinds[one]), one.runs))
        chosen = {one.task: one for one in mine}
        return tuple(one for one in self.measured if chosen.get(one.task) is one)

    def ranges_of(self, curve: Curve) -> dict[str, dict[str, tuple[int, int]]]:
        """Return the smallest and the largest number of records that each arm was run with, by the curve's tasks."""
        parts: Sequence[Curve] = (isinstance(curve, PooledCurve) and self.parts_of(curve)) or (curve,)
        sizes = {
            arm: {one.task: one.points.get(arm) or one.sizes for one in parts if arm in one.draws}
            for arm in curve.draws
        }
        return {arm: {task: (min(of), max(of)) for task, of in tasks.items()} for arm, tasks in sizes.items() if tasks}


def corpus_of(upstream: str) -> str:
    """Return whose records an upstream, or a kind of upstream, was made of: what stands before the slash."""
    return upstream.split("/")[0]


def is_released(upstream: str) -> bool:
    """Say whether an upstream is a network that was there before, ``zoo:NAME``, and not a task to pre-train on."""
    return upstream.startswith(RELEASED)


def start_in_words(upstream: str) -> str:
    """Say what fine-tuning started from, to follow a network."""
    return f"from {upstream.removeprefix(RELEASED)}" if is_released(upstream) else f"pre-trained on {upstream}"


def weights_named(described: str) -> str:
    """Return the first digits of the hash of a network's weights, where what is said of it names them; else nothing."""
    found = _WEIGHTS.search(described)
    return "" if found is None else found[1]


def is_disjoint(kind: str) -> bool:
    """Say whether a kind of upstream has none of the task's labels (METHODS.md, Upstreams)."""
    return kind.endswith("/disjoint")


def read_curves(path: Path) -> CurvesFile:
    """Read a curves file. Raises CurvesFileError."""
    try:
        if not S_ISREG(mode := path.stat().st_mode) and not S_ISDIR(mode):  # a device may be read without end
            raise CurvesFileError(f"the curves file {path} is not a regular file")
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except CurvesFileError:
        raise
    except FileNotFoundError:
        raise CurvesFileError(f"no curves file at {path}") from None
    except OSError as error:
        raise CurvesFileError(f"cannot read the curves file {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CurvesFileError(f"{path} is damaged or no curves file: {decoding_fault(error)}") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CurvesFileError(f"{path} is not a curves file: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise CurvesFileError(
            f"{path} has curves schema {version}, and this ecgadvise reads up to {SCHEMA_VERSION}: update ecgadvise"
        )
    try:
        return parse_curves(document)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CurvesFileError(f"{path} is damaged: {reason}") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def parse_curves(document: Mapping[str, Any]) -> CurvesFile:
    """Return the curves of a curves file's document. Raises what ``read_curves`` calls damage."""
    networks = {
        _text(name): Network(name, _text(facts["family"]), _count_or_none(facts["parameters"]))
        for name, facts in document["networks"].items()
    }
    curves = tuple(_parse_curve(curve) for curve in document["curves"])
    if not curves:
        raise ValueError("it holds no curve")
    for curve in curves:
        if curve.arch not in networks:
            raise ValueError(f"it does not describe the network {curve.arch}")
    return CurvesFile(
        **{name: _text(document[name]) for name in ("study", "version", "created")},
        networks=networks,
        registered=_texts(document["registered"]),
        family_default=_texts(document["family_default"]),
        upstreams=_texts(document["upstreams"]),
        curves=curves,
    )


def _parse_curve(curve: Mapping[str, Any]) -> Curve:
    pooled = _flag(curve.get("pooled", False))
    shared = _parse_shared(curve, pooled)
    tasks = tuple(_text(task) for task in curve.get("tasks", [curve["task"]]))
    kind = _text(curve["kind"]) if "kind" in curve else None
    if pooled:
        return PooledCurve(**shared, tasks=tasks, levels=_parse_levels(curve, len(shared["draws"][SCRATCH]["a"])))
    covariances, patients, classes = _parse_covariances(curve), _parse_patients(curve), _parse_classes(curve)
    return MeasuredCurve(**shared, kind=kind, classes=classes, test_covariance=covariances, patients=patients)


def _parse_levels(curve: Mapping[str, Any], n_draws: int) -> LabelLevels | None:
    if "label_levels" not in curve:
        return None
    levels = read_levels(curve["label_levels"])
    if len(levels.fixed) != n_draws or "bend" not in curve["draws"][SCRATCH]:
        raise ValueError("what its labels say does not fit the draws of a curve")
    return levels


def _parse_classes(curve: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what single classes scored: an answer shows names and shares; of the rest the form alone is checked."""
    classes: Mapping[str, Any] = curve.get("classes", {})
    if not classes:
        return {}
    n_classes, n_sizes = len(classes["names"]), len(classes["sizes"])
    for name, share in zip(classes["names"], classes["prevalence"], strict=True):
        _text(name)
        _number(share, 0, 1)
    rows = [*classes["means"], *classes["variances"]]
    if len(rows) != 2 * n_sizes or any(len(row) != n_classes for row in rows):
        raise ValueError("what its classes scored does not fit their number")
    return classes


def _parse_covariances(curve: Mapping[str, Any]) -> dict[str, Floats]:
    further = curve.get("further_arms", {})
    written = {SCRATCH: (curve, len(curve["draws"]))}
    written |= {arm: (further[arm], 2) for arm in FURTHER_STRATEGIES if arm in further}
    return {
        arm: _parse_covariance(of["test_covariance"], n_arms)
        for arm, (of, n_arms) in written.items()
        if "test_covariance" in of
    }


def _parse_patients(curve: Mapping[str, Any]) -> tuple[tuple[str, ...], Floats] | None:
    if "patients" not in curve:
        return None
    arms = tuple(_text(arm) for arm in curve["patients"]["arms"])
    return arms, _parse_covariance(curve["patients"]["covariance"], len(arms))


def _parse_covariance(rows: Sequence[Sequence[Any]], n_arms: int) -> Floats:
    """Return a covariance of which every two arms correlate by 1 at the most, as far as rounded numbers can say it.

    Without a call of linear algebra for each: every answer reads these numbers, and none needs them.
    """
    if len(rows) != n_arms or any(len(row) != n_arms for row in rows):
        raise ValueError("a covariance of the test set is not of its arms")
    found = [[_number(value, -1, 1) for value in row] for row in rows]
    for i, j in combinations_with_replacement(range(n_arms), 2):
        most = found[i][i] * found[j][j] * (1 + _ROUNDED) ** 2
        if found[i][j] != found[j][i] or found[i][i] < 0 or found[i][j] ** 2 > most:
            raise ValueError("a covariance of the test set is not one")
    return np.array(found, np.float64) * (1 + _ROUNDED * np.eye(n_arms))  # arms that vary as one may no longer do so


def _parse_shared(curve: Mapping[str, Any], pooled: bool) -> dict[str, Any]:
    """Return what a curve holds whether it is pooled or not."""
    draws = _parse_draws(curve["draws"])
    further = {arm: curve["further_arms"][arm] for arm in FURTHER_STRATEGIES if arm in curve.get("further_arms", {})}
    cost = {arm: curve["cost"][arm] for arm in draws} if "cost" in curve else {}
    cost |= {arm: one["cost"] for arm, one in further.items() if "cost" in one}
    sizes = tuple(_count(n) for n in curve["sizes"])
    if not sizes:
        raise ValueError("a curve has no sizes")
    family = _text(curve["family"])
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is not a family of networks")
    sources, test_records = _parse_provenance(curve["provenance"], pooled) if "provenance" in curve else ((), None)
    draws |= {arm: read_further(one, draws[SCRATCH]) for arm, one in further.items()}
    precision = curve.get("precision", FLOAT32)
    others = {FINE_TUNE: curve["noise"]["fine_tune"]} if "fine_tune" in curve["noise"] else {}
    others |= {arm: one["noise"] for arm, one in further.items()}
    return {
        **{name: _text(curve[name]) for name in ("task", "arch", "upstream", "metric")},
        "family": family,
        "sizes": sizes,
        "replicates": _count(curve["replicates"]),
        "runs": _count(curve["runs"]),
        "draws": no_fall_beyond(draws, max(sizes), chance_level(_text(curve["metric"]))),
        "noise": _parse_noise(curve["noise"], "alpha", "gamma", "correlation"),
        "further_noise": {arm: _parse_noise(written, "alpha", "gamma") for arm, written in others.items()},
        "points": {
            arm: {int(n): tuple(_number(v, 0, 1) for v in values) for n, values in by_size.items()}
            for arm, by_size in (curve["points"] | {arm: one["points"] for arm, one in further.items()}).items()
        },
        "cost": {arm: _parse_cost(one) for arm, one in cost.items()},
        "pretraining": _parse_pretraining(curve["cost"]["pretraining"])
        if "pretraining" in curve.get("cost", {})
        else None,
        "sources": sources,
        "test_records": test_records,
        "warnings": tuple(_text(warning) for warning in curve["warnings"]),
        "precision": None if precision is None else _text(precision),
        "devices": _parse_devices(curve),
        "recipe": _text(curve["provenance"]["recipe"]) if "recipe" in curve.get("provenance", {}) else None,
    }


def _parse_noise(noise: Mapping[str, Any], *names: str) -> dict[str, float]:
    return {name: _number(noise[name], -100, 100) for name in names}


def _parse_devices(curve: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what its runs were made on; a curve of before there was such a list names one device with its costs."""
    if "devices" in curve.get("provenance", {}):
        return tuple(_text(device) for device in curve["provenance"]["devices"])
    return (_text(curve["cost"][SCRATCH]["device"]),) if "cost" in curve else ()


def _parse_provenance(provenance: Mapping[str, Any], pooled: bool) -> tuple[tuple[Mapping[str, str], ...], int | None]:
    """Return the publishers of the records, and how many tested: no number of one task stands for a pool's others."""
    one, test_records = _texts(provenance["source"]), _count(provenance["test_records"])
    if not pooled:
        return ((one,) if one else ()), test_records
    return tuple(_texts(source) for source in provenance.get("sources", [])), None


def _parse_draws(arms: Mapping[str, Any]) -> dict[str, dict[str, Floats]]:
    if SCRATCH not in arms or not set(arms) <= {SCRATCH, FINE_TUNE}:
        raise ValueError(f"a curve has the strategies {sorted(arms)}")
    draws = {arm: read_draws(written) for arm, written in arms.items()}
    if len({len(values["a"]) for values in draws.values()}) != 1:
        raise ValueError("the parameters of a curve differ in their number of draws")
    return draws


def _parse_cost(cost: Mapping[str, Any]) -> TrainingCost:
    return TrainingCost(
        device=_text(cost["device"]),
        record_passes=_count(cost["record_passes"]),
        min_epochs=_count(cost["min_epochs"]),
        max_epochs=_count(cost["max_epochs"]),
        validation_fraction=_number(cost["validation_fraction"], 0, 1),
        seconds_per_record=_number(cost["seconds_per_record"], 0, 1e6),
        share_to_best=None if cost["share_to_best"] is None else _number(cost["share_to_best"], 0, 1),
        other_devices=_parse_times(cost, 1e6),
    )


def _parse_pretraining(cost: Mapping[str, Any]) -> PretrainingCost:
    seen, seconds = _count(cost["records_seen"]), _number(cost["seconds"], 0, 1e12)
    return PretrainingCost(_text(cost["device"]), seen, seconds, _parse_times(cost, 1e12))


def _parse_times(cost: Mapping[str, Any], most: float) -> dict[str, float]:
    return {_text(device): _number(time, 0, most) for device, time in cost.get("other_devices", {}).items()}


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or UNPRINTABLE.search(value):
        raise ValueError(f"{str(value)[:40]!r} stands where a text belongs")
    return value


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in values.items()}


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{str(value)[:40]} stands where true or false belongs")
    return value


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]} stands where a number from {low:g} to {high:g} belongs")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise ValueError(f"{str(value)[:40]} stands where a positive whole number belongs")
    return value


def _count_or_none(value: object) -> int | None:
    return None if value is None else _count(value)
