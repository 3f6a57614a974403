"""The probe gap of a pre-trained network on the asker's records, and why it does not enter the answer."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advisor.own_records.records import OwnData
from engine.corpora.held_out import together
from engine.corpora.splits import draw_records
from engine.seeds import stable_seed
from studies.files.transferability import FEWEST_SITES, SCORE, Correlation

_MOST_RECORDS = 1000  # that are probed: two seconds of one thread


@dataclass(frozen=True)
class Score:
    """The gap of ``network`` on ``n_records`` of the asker's: AUROC of ``features`` minus ``random_convolutions``.

    Both are macro averages over ``classes``, of patients left out. Of ``of`` tasks of the evidence, measured at ``at``
    records, ``below`` have a smaller gap; ``correlation`` is the rank correlation of gap and measured gain at equal
    numbers of records, with its 90 % interval. All of these are None where they were not measured. ``why_not_used``
    says why the gap says nothing of the gain here, None where it does.
    """

    network: str
    value: float
    features: float
    random_convolutions: float
    classes: tuple[str, ...]
    n_records: int
    below: int | None
    of: int | None
    at: int | None
    correlation: float | None
    ci_lower: float | None
    ci_upper: float | None
    why_not_used: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        facts = {name: value for name, value in asdict(self).items() if name != "why_not_used"}
        rounded = {name: round(facts[name], 4) for name in ("value", "features", "random_convolutions")}
        return {"name": SCORE, **facts, **rounded, "classes": list(self.classes)}

    def in_words(self) -> str:
        """Return it in a few lines."""
        measured = (
            f"{SCORE} {self.value:+.3f} on {self.n_records:,} of your records ({self.network}: features "
            f"{self.features:.3f}, random convolutions {self.random_convolutions:.3f}, by leaving patients out)"
        )
        if self.why_not_used is not None:
            return f"{measured}: {self.why_not_used}"
        return (
            f"{measured}: above {self.below} of {self.of} tasks at {self.at:,} records (rank correlation with the gain "
            f"{self.correlation:.2f}, 90 %: {self.ci_lower:.2f} to {self.ci_upper:.2f})"
        )


def why_not_used(arch: str, known: Correlation | None) -> str | None:
    """Say why a gap tells nothing of the gain of a network; None where held-out sites say that it does."""
    if known is None:
        why = f"whether it predicts the gain of {arch} was not measured."
    elif known.spearman is None or known.ci_lower is None or known.ci_upper is None:
        why = f"whether it predicts the gain of {arch} cannot be told from so few tasks ({known.tasks})."
    elif not known.is_there:
        why = (
            f"over {known.tasks} tasks it does not rank the gains of {arch} (rank correlation {known.spearman:.2f}, "
            f"90 %: {known.ci_lower:.2f} to {known.ci_upper:.2f})."
        )
    elif known.sites < FEWEST_SITES:
        where = "one site" if known.sites == 1 else f"{known.sites} sites"
        why = f"what it says of the gain has been measured at {where} only."
    elif known.held_out is None:
        why = f"what it says of the gain was measured at {known.sites} sites and not tested on sites held out."
    elif not known.held_out.confirms:
        why = f"on {known.held_out.sites} sites held out it did not make the prediction of the gain better."
    else:
        return None
    return f"not used in the answer: {why}"


def score_own(
    own: OwnData, name: str, arch: str, checkpoint: Path, n_records: int, known: Correlation | None
) -> Score | str:  # fmt: skip
    """Measure the gap of a network on as many of the asker's records as were measured, or say why that is left out.

    Raises CheckpointError.
    """
    from engine.checkpoints.checkpoint import load_checkpoint
    from studies.collection.probe_gap import FEWEST_RECORDS, counted_classes, measure_gap

    facts, corpus = load_checkpoint(checkpoint).facts, own.corpus
    if facts.contract.unlike(corpus.contract):
        return f"left out: {name} takes other leads, another rate or another length than these records have."
    cells = () if known is None else known.cells
    sizes = sorted({n for n, _, _ in cells if n <= _MOST_RECORDS}) or [min(n_records, _MOST_RECORDS)]
    at = min(sizes, key=lambda n: abs(np.log(n) - np.log(n_records)))
    seed = stable_seed(own.data.name, SCORE)
    drawn = np.sort(own.pool[draw_records(own.data.patients[own.pool], min(at, len(own.pool)), seed)])
    labels, patients = own.data.labels[drawn], together(corpus)[own.data.rows[drawn]]
    counted = counted_classes(labels, patients)
    leads = [corpus.leads.index(lead) for lead in facts.leads]
    signals = np.ascontiguousarray(corpus.signals[own.data.rows[drawn]][:, leads])
    gap = measure_gap(checkpoint, signals, labels, patients, seed)
    if gap is None:
        without = f"no label has {FEWEST_RECORDS} records with it and {FEWEST_RECORDS} without it, of several patients"
        return f"left out: of {len(drawn):,} records drawn, {without if not counted.any() else 'no feature is finite'}."
    gaps = [gap_of_task for n, gap_of_task, _ in cells if n == at]
    return Score(
        name, gap.value, gap.features, gap.random_convolutions,
        classes=tuple(label for label, counts in zip(own.data.classes, counted, strict=True) if counts),
        n_records=len(drawn),
        below=sum(other < gap.value for other in gaps) if gaps else None,
        of=len(gaps) or None,
        at=at if gaps else None,
        correlation=None if known is None else known.spearman,
        ci_lower=None if known is None else known.ci_lower,
        ci_upper=None if known is None else known.ci_upper,
        why_not_used=why_not_used(arch, known),
    )  # fmt: skip
