"""``ecgadvise.recommend``: the question that the tool exists for, without the training stack."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import index
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.answer.question import NoRunsFromError, Question, UnknownUpstreamError, find_nonsense
from advisor.answer.recommend import Recommendation
from advisor.answer.recommend import recommend as answer
from advisor.answer.words import headline
from advisor.interface.curves import Curves
from engine.records.label_names import finding_of
from studies.files.curves import CurvesFile, read_curves
from studies.files.label_levels import Label
from studies.files.shipped import DEFAULT_CURVES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Answer(Recommendation):
    """The answer to a question: ``best``, ``arms``, ``verdict``, ``why``, ``gain`` and what they rest on.

    ``arms`` are all that were measured, best expected score first, each with ``score``, ``difference`` to scratch,
    ``p_best``, ``expected_loss`` and ``cost``; ``best`` is the one to train. ``verdict`` is on fine-tuning or scratch.
    ``print`` shows it as the command line does.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``ecgadvise recommend --json`` prints."""
        from advisor.text.answer_json import to_document

        return to_document(self)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw all curves and the asked number of records on ``ax``, or on axes of a new figure; return the axes."""
        from advisor.text.curve_figure import draw_on
        from advisor.text.curve_lines import with_points

        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(6.6, 4.6), layout="constrained")[1]
        draw_on(ax, with_points(self.curve, self.curves), self.question.margin, self.question.n_records)
        return ax

    def __repr__(self) -> str:
        gain, n = self.gain, self.question.n_records
        return (
            f"<Answer: {headline(self)[0].lower()} at {n:,} records ({self.curve.arch}, {self.support}); "
            f"gain {gain.mean:+.3f} (90 %: {gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f})>"
        )

    def __str__(self) -> str:
        from advisor.text.table import to_table

        return to_table(self).rstrip("\n")


def recommend(
    n_records: int,
    arch: str | None = None,
    *,
    task: str | None = None,
    upstream: str | None = None,
    metric: str = "auroc_macro",
    margin: float = 0.01,
    target: float | None = None,
    label_cost: float | None = None,
    gpu_cost: float | None = None,
    currency: str | None = None,
    uses: int | None = None,
    device_speed: float | None = None,
    labels: Mapping[str, float] | None = None,
    task_like: str | None = None,
    curves: "str | PathLike[str] | Curves | None" = None,
) -> Answer:
    """Say which of the measured arms to train, what each will score and cost, and how sure that is.

    ``n_records`` are the labelled records for training and validation together, ``arch`` is cnn, rnn or the name of a
    network (None: the best that was measured); ``labels`` maps each label of the records to the share of them that has
    it; all else is as in ``ecgadvise recommend``. ``curves`` is a curves file or what ``fit_curves`` returned, the
    evidence that ships by default. Raises ValueError for a value that no question can have, UnknownNameError,
    NoEvidenceError and CurvesFileError. Where no run of the evidence starts from the network that ``upstream`` names,
    the NoEvidenceError is a NothingFromNetworkError: its ``document`` has what is published of the network.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise ValueError("labels maps each label to the share of the records that has it: {'AF': 0.04}")
    numbers = (target, label_cost, gpu_cost, device_speed)
    target, label_cost, gpu_cost, device_speed = (None if value is None else float(value) for value in numbers)
    question = Question(
        index(n_records), arch, metric, float(margin), upstream, task, target, label_cost, gpu_cost,
        None if uses is None else index(uses), device_speed,
        tuple(Label(finding_of(name), float(share)) for name, share in (labels or {}).items()), task_like,
        None, currency,
    )  # fmt: skip
    if labels and task_like is not None:
        raise ValueError("labels and task_like say the same in two ways: give one of them")
    if (nonsense := find_nonsense(question, str, names_network=arch is not None)) is not None:
        raise ValueError(nonsense)
    evidence = _open(curves)
    try:
        found = answer(question, evidence)
    except (NoRunsFromError, UnknownUpstreamError) as error:
        from advisor.text.no_runs import with_published

        raise with_published(error, evidence) from None
    return Answer(**{field.name: getattr(found, field.name) for field in fields(found)})


def _open(curves: "str | PathLike[str] | Curves | None") -> CurvesFile:
    if isinstance(curves, Curves):
        return curves.file
    return read_curves(DEFAULT_CURVES if curves is None else Path(curves))
