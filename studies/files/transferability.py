"""``transferability.json`` next to a curves file: what the evidence's records are, and how the gap ranks gains.

Written by ``studies.collection.transferability``, read here with json alone. A curves file may be without one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ExitCode, UserError, decoding_fault

NAME = "transferability.json"
SCHEMA_VERSION = 1
SCORE = "probe gap"
FEWEST_SITES = 3  # corpora, before a gap is said to tell something of the gain
COVER = 0.85, 0.95  # of 90 % bands, between which a share of held-out gains must lie


class TransferabilityFileError(UserError, ValueError):
    """A file that is damaged or too new; one sentence says which."""

    exit_code = ExitCode.DATA


@dataclass(frozen=True)
class TaskFacts:
    """The records of a measured task: whose, how many, their leads, rate and length, and the share with each class."""

    source: str
    records: int
    leads: tuple[str, ...]
    fs: float
    prevalence: Mapping[str, float]
    seconds: float = 10.0


@dataclass(frozen=True)
class HeldOutSites:
    """How much better gains of sites held out are predicted with the gap than without it, 90 % intervals over sites.

    ``log_score`` and ``crps`` are (lower, upper) of the difference, above zero where the gap makes the prediction
    better; ``cover`` is the share of measured gains in 90 % bands.
    """

    sites: int
    log_score: tuple[float, float]
    crps: tuple[float, float]
    cover: float

    @property
    def confirms(self) -> bool:
        """Whether it is what was registered before (METHODS.md, Transferability)."""
        better = self.log_score[0] > 0 and self.crps[0] > 0
        return self.sites >= FEWEST_SITES and better and COVER[0] <= self.cover <= COVER[1]


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of gap and gain over cells of the same size, 90 % interval; ``cells`` are (n, gap, gain).

    ``sites`` is the number of corpora that the tasks are of; ``held_out`` is None where no site was held out.
    """

    spearman: float | None
    ci_lower: float | None
    ci_upper: float | None
    tasks: int
    sites: int
    cells: tuple[tuple[int, float, float], ...]
    held_out: HeldOutSites | None = None

    @property
    def is_there(self) -> bool:
        """Whether the gap ranks tasks as their gains do: the whole interval lies above zero."""
        return self.ci_lower is not None and self.ci_lower > 0


@dataclass(frozen=True)
class Transferability:
    """What the file says, by task and by network."""

    tasks: Mapping[str, TaskFacts]
    networks: Mapping[str, Correlation]


def read_transferability(curves: Path) -> Transferability | None:
    """Read the file next to a curves file, None where there is none. Raises TransferabilityFileError."""
    path = curves.with_name(NAME)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise TransferabilityFileError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise TransferabilityFileError(f"{path} is damaged: {decoding_fault(error)}") from None
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema {document['schema_version']}, and {SCHEMA_VERSION} is read here")
        return Transferability(
            {name: _task(facts) for name, facts in document["tasks"].items()},
            {name: _correlation(facts) for name, facts in _of_this_score(document).items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise TransferabilityFileError(f"{path} cannot be used: {reason}") from None


def _task(facts: Mapping[str, Any]) -> TaskFacts:
    prevalence = {str(name): float(share) for name, share in facts["prevalence"].items()}
    if not prevalence:
        raise ValueError("a task has no class")
    seconds = float(facts.get("seconds", TaskFacts.seconds))  # written where it is another
    return TaskFacts(
        str(facts["source"]), int(facts["records"]), tuple(map(str, facts["leads"])), float(facts["fs"]), prevalence,
        seconds,
    )  # fmt: skip


def _of_this_score(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the file says of networks; nothing where it measured another score, as earlier files did."""
    networks: Mapping[str, Any] = document["networks"]
    return networks if document["score"] == SCORE else {}


def _correlation(facts: Mapping[str, Any]) -> Correlation:
    numbers = {name: _number(facts["at_equal_n"][name]) for name in ("spearman", "ci_lower", "ci_upper")}
    cells = tuple((int(n), float(gap), float(gain)) for _task, _from, n, gap, gain, _pairs in facts["cells"])
    sites = {str(task).partition("/")[0] for task, *_ in facts["cells"]}
    held_out = facts.get("held_out_sites")
    return Correlation(
        **numbers, tasks=int(facts["tasks"]), sites=len(sites), cells=cells,
        held_out=None if held_out is None else _held_out(held_out),
    )  # fmt: skip


def _held_out(facts: Mapping[str, Any]) -> HeldOutSites:
    (log_low, log_high), (crps_low, crps_high) = facts["log_score"], facts["crps"]
    return HeldOutSites(
        int(facts["sites"]), (float(log_low), float(log_high)), (float(crps_low), float(crps_high)),
        float(facts["cover"]),
    )  # fmt: skip


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
