"""One run of a study, whoever ran it: what its row says and, where a store keeps it, the details with the row.

``Run`` is also the one table of columns: a field with a kind of column (``studies.runs.columns``) is a column of the
store and of a runs table, in this order, and its kind says how it is kept and read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine.recipes import Recipe, read_recipe
from studies.files.precision import with_precision
from studies.runs.columns import NUMBER, PRECISION, SCORE, TEXT, UPSTREAM, WHOLE, Column, column_of
from studies.runs.run_spec import RunSpec, read_spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METRIC = "auroc_macro"
Value = TypeVar("Value")


class Subset(NamedTuple):
    """Which records a run has, whatever is trained on them: runs of one subset can be compared with each other.

    Replicates may be tested on folds of their own, and two studies may number theirs alike. A table says nothing of
    folds: there a replicate is one.
    """

    task: str
    n_records: int
    replicate: int
    pool_folds: tuple[int, ...] = ()
    test_folds: tuple[int, ...] = ()


def known(value: Value | None) -> Value:
    """Return what every run of a store says of itself. Raises ValueError for a run that does not, of a table."""
    if value is None:
        raise ValueError("this run comes from a table that does not say this of it")
    return value


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run. What nobody knows of it is None: a store knows all but some scores, a table what it pleases.

    ``metric`` names the score that the run is compared by; ``other_scores`` holds scores of a table that are not
    columns of a store. ``place`` says which row of a table the run is. ``details`` is what a store keeps without a
    column of its own; the properties below read it and raise KeyError where it does not hold what they are asked for.
    """

    key: str | None = field(default=None, metadata=TEXT)
    task: str = field(metadata=TEXT)
    arch: str = field(metadata=TEXT)
    family: str = field(metadata=TEXT)
    strategy: str = field(metadata=TEXT)
    upstream: str | None = field(default=None, metadata=UPSTREAM)
    n_records: int = field(metadata=WHOLE)
    replicate: int = field(metadata=WHOLE)
    recipe: str | None = field(default=None, metadata=TEXT)
    role: str | None = field(default=None, metadata=TEXT)
    auroc_macro: float | None = field(default=None, metadata=SCORE)
    auprc_macro: float | None = field(default=None, metadata=SCORE)
    brier: float | None = field(default=None, metadata=SCORE)
    validation_auroc: float | None = field(default=None, metadata=SCORE)
    seconds: float | None = field(default=None, metadata=NUMBER)
    seconds_to_best: float | None = field(default=None, metadata=NUMBER)
    epochs: int | None = field(default=None, metadata=WHOLE)
    best_epoch: int | None = field(default=None, metadata=WHOLE)
    records_seen: int | None = field(default=None, metadata=WHOLE)
    records_to_best: int | None = field(default=None, metadata=WHOLE)
    gflop: float | None = field(default=None, metadata=NUMBER)
    peak_memory_mb: float | None = field(default=None, metadata=NUMBER)
    device: str | None = field(default=None, metadata=TEXT)
    data_hash: str | None = field(default=None, metadata=TEXT)
    created: str | None = field(default=None, metadata=TEXT)
    f1_macro: float | None = field(default=None, metadata=SCORE)
    f1_weighted: float | None = field(default=None, metadata=SCORE)
    ece: float | None = field(default=None, metadata=SCORE)
    attempts: int | None = field(default=None, metadata=WHOLE)
    precision: str | None = field(default=None, metadata=PRECISION)

    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
    metric: str = METRIC
    other_scores: Mapping[str, float] = field(default_factory=dict)
    place: str | None = None

    @property
    def name(self) -> str:
        """What messages call the run."""
        return self.place or f"run {self.key}"

    def value(self, metric: str) -> float | None:
        """Return the run's score by a metric, None where it has none."""
        value: float | None = getattr(self, metric) if is_score_column(metric) else self.other_scores.get(metric)
        return value

    @property
    def network(self) -> str:
        """What tables call the run's network: its name, with the precision where that is not float32.

        A run of a store, which has a key, is there apart from those of float32 also where its precision is not known.
        """
        return with_precision(self.arch, self.precision or ("unknown precision" if self.key else None))

    @property
    def subset(self) -> Subset:
        """Which records it has."""
        spec: Mapping[str, Any] = self.details.get("spec", {})
        pool, test = (tuple(spec.get(name, ())) for name in ("pool_folds", "test_folds"))
        return Subset(self.task, self.n_records, self.replicate, pool, test)

    @property
    def has_score(self) -> bool:
        """Whether the run has the score that it is compared by."""
        return self.value(self.metric) is not None

    @property
    def score(self) -> float:
        """The score that the run is compared by. Raises ValueError where it has none."""
        return known(self.value(self.metric))

    @property
    def has_cost(self) -> bool:
        """Whether all is known of what the run cost, and makes sense: the best epoch is one of those that were run."""
        return cost_is_known(vars(self))

    @property
    def training_records(self) -> int:
        """On how many records the run trained, those that validated it left out."""
        return round(known(self.records_seen) / known(self.epochs))

    @property
    def reading(self) -> str:
        """How the network reads the records where that is not as they are, empty where it is or nobody says."""
        return str(self.details.get("spec", {}).get("reading", ""))

    @cached_property
    def spec(self) -> RunSpec:
        """What was to be run."""
        return read_spec(self.details["spec"])

    @cached_property
    def training_recipe(self) -> Recipe:
        """The numbers that ``recipe`` names; a field that was not thought of when it was stored has its default."""
        return read_recipe(self.details["recipe"])

    @property
    def start_from(self) -> str | None:
        """The key of the pre-training that the run started from; None from random weights and in an early store."""
        key: str | None = self.details.get("start_from")
        return key

    @property
    def started_from(self) -> str | None:
        """What is said of the network that the run started from, if that was there before; None for others."""
        described: str | None = self.details.get("started_from")
        return described

    @property
    def way(self) -> str | None:
        """How its steps were made: "eager", "graph", "lockstep of 8"; None where the store is older than that."""
        way: str | None = self.details.get("way")
        return way

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of Python, torch, numpy and this package that the run was made with."""
        versions: Mapping[str, str] = self.details["versions"]
        return versions

    @property
    def source(self) -> Mapping[str, str | None]:
        """Where its records come from: name, version, licence, url."""
        source: Mapping[str, str | None] = self.details["source"]
        return source

    @property
    def task_description(self) -> str:
        """The task in words."""
        return str(self.details["task"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of the task."""
        return tuple(self.details["classes"])

    @property
    def test_records(self) -> int:
        """The number of records that it was tested on."""
        return int(self.details["test_records"])

    @property
    def test_patients(self) -> int:
        """The number of patients that it was tested on."""
        return int(self.details["test_patients"])

    @property
    def least_positives(self) -> int:
        """How many positive and negative test records a class must have for its macro averages.

        1 for a run that was scored before there was such a floor; where no class has as many, all that have both
        outcomes are averaged (``engine.evaluation.metrics.averaged_classes``).
        """
        return int(self.details.get("least_positives", 1))

    @property
    def averaged(self) -> tuple[str, ...] | None:
        """The classes that its macro averages take, None where that is not known."""
        if "auroc" not in self.details:
            return None
        left_out = self.details.get("left_out", ())
        scores = self.class_auroc.items()
        return tuple(name for name, auroc in scores if auroc is not None and name not in left_out)

    @property
    def class_auroc(self) -> Mapping[str, float | None]:
        """What each class scored on the test records, None where it had no records with or without it."""
        by_class: Mapping[str, float | None] = self.details.get("auroc", {})
        return by_class

    @property
    def test_positives(self) -> Mapping[str, int]:
        """How many test records have each class; nothing where the run does not say it."""
        classes: Mapping[str, Mapping[str, Any]] = self.details.get("evaluation", {}).get("classes", {})
        return {name: int(facts["positives"]) for name, facts in classes.items() if "positives" in facts}

    @property
    def bootstrap(self) -> "NDArray[np.float64]":
        """The macro AUROC of each resample of the test patients, (resamples,), the same ones for all runs of a task.

        NaN for a resample that lacks an outcome of an averaged class; no resamples where the store keeps none.
        """
        import numpy as np  # here, because status is asked often and needs none

        return np.array(self.details.get("bootstrap") or (), np.float64)

    @property
    def test_maximum(self) -> Mapping[str, float | None] | None:
        """Scores at the best epoch on the test records and at the chosen one, None for a run that did not look."""
        maximum: Mapping[str, float | None] | None = self.details.get("test_maximum")
        return maximum

    @property
    def validations(self) -> Sequence[Mapping[str, Any]]:
        """What the run scored on its validation records, an epoch each."""
        validations: Sequence[Mapping[str, Any]] = self.details.get("validations", ())
        return validations

    @cached_property
    def trajectory(self) -> tuple[tuple[int, float], ...]:
        """Records seen and AUROC on the validation records, where that is known; not before a record was seen."""
        return tuple(
            (int(one["records_seen"]), float(one["auroc"]))
            for one in self.validations
            if one["auroc"] is not None and one["records_seen"]
        )


def cost_is_known(row: Mapping[str, Any]) -> bool:
    """Say whether a row has all columns of what a run cost, and they make sense.

    A head that started as a probe may be the best before the first epoch, when no record was trained on.
    """
    parts = (("seconds_to_best", "seconds"), ("records_to_best", "records_seen"), ("best_epoch", "epochs"))
    if not row["device"] or any(row[name] is None for part in parts for name in part):
        return False
    counted = parts[:1] if row["best_epoch"] == row["records_to_best"] == 0 else parts
    return all(0 < row[best] <= row[whole] for best, whole in counted)


COLUMN_KINDS: Mapping[str, Column] = {
    one.name: kind for one in fields(Run) if (kind := column_of(one.metadata)) is not None
}
COLUMNS = tuple(COLUMN_KINDS)


def is_score_column(name: str) -> bool:
    """Say whether a store has a column of scores of that name."""
    return name in COLUMN_KINDS and COLUMN_KINDS[name].is_score


def row_of(run: Run) -> dict[str, Any]:
    """Return a run's value for every column."""
    return {name: getattr(run, name) for name in COLUMNS}


def read_row(cells: Mapping[str, str]) -> dict[str, Any]:
    """Return what the cells of a table's row mean, for every column; None where there is no such cell."""
    return {name: kind.read(cells.get(name, "")) for name, kind in COLUMN_KINDS.items()}
