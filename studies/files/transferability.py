"""``transferability.json`` next to a curves file: what the evidence's records are, and whether a score predicts gains.

Written by ``studies.collection.transferability``, read here with json alone. A curves file may be without one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import ExitCode, UserError

NAME = "transferability.json"
SCHEMA_VERSION = 1
SCORE = "LogME"


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
class Correlation:
    """Rank correlation of score and gain over cells of the same size, 90 % interval; ``cells`` are (n, score, gain)."""

    spearman: float | None
    ci_lower: float | None
    ci_upper: float | None
    tasks: int
    cells: tuple[tuple[int, float, float], ...]

    @property
    def is_there(self) -> bool:
        """Whether the score ranks tasks as their gains do: the whole interval lies above zero."""
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
        raise TransferabilityFileError(f"{path} is damaged: {error}") from None
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema {document['schema_version']}, and {SCHEMA_VERSION} is read here")
        return Transferability(
            {name: _task(facts) for name, facts in document["tasks"].items()},
            {name: _correlation(facts) for name, facts in document["networks"].items()},
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


def _correlation(facts: Mapping[str, Any]) -> Correlation:
    numbers = {name: _number(facts["at_equal_n"][name]) for name in ("spearman", "ci_lower", "ci_upper")}
    cells = tuple((int(n), float(score), float(gain)) for _task, _from, n, score, gain, _pairs in facts["cells"])
    return Correlation(**numbers, tasks=int(facts["tasks"]), cells=cells)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
