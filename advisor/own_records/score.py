"""What one forward pass says of a pre-trained network on the asker's records, and what that is worth."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advisor.own_records.records import OwnData
from engine.corpora.splits import draw_records
from engine.seeds import stable_seed
from studies.files.transferability import SCORE, Correlation


@dataclass(frozen=True)
class Score:
    """The score of ``network`` on ``n_records`` of the asker's, and how it stands among the evidence's tasks.

    ``below`` of ``of`` tasks, measured at ``at`` records, score less. ``correlation`` is the rank correlation of the
    score with the measured gain, at equal numbers of records, with its 90 % interval.
    """

    network: str
    value: float
    n_records: int
    below: int
    of: int
    at: int
    correlation: float
    ci_lower: float
    ci_upper: float

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": SCORE, **asdict(self), "value": round(self.value, 4)}

    def in_words(self) -> str:
        """Return it in a line or two."""
        return (
            f"{SCORE} {self.value:.3f} of {self.network}: above {self.below} of {self.of} tasks at {self.at:,} records "
            f"(rank correlation with the gain {self.correlation:.2f}, 90 %: {self.ci_lower:.2f} to {self.ci_upper:.2f})"
        )


def why_left_out(arch: str, known: Correlation | None) -> str:
    """Say why no score is shown where its correlation with the gain is not there, or was not measured."""
    if known is None:
        return f"left out: whether {SCORE} predicts the gain of {arch} was not measured."
    if known.spearman is None:
        return (
            f"left out: whether {SCORE} predicts the gain of {arch} cannot be told from so few tasks ({known.tasks})."
        )
    interval = "" if known.ci_lower is None else f", 90 %: {known.ci_lower:.2f} to {known.ci_upper:.2f}"
    return (
        f"left out: over {known.tasks} tasks {SCORE} does not predict the gain of {arch} (rank correlation "
        f"{known.spearman:.2f}{interval})."
    )


def score_own(own: OwnData, name: str, checkpoint: Path, n_records: int, known: Correlation) -> Score | str:
    """Score a network on as many of the asker's records as were measured, or say why that is left out.

    Raises CheckpointError.
    """
    from engine.checkpoints.checkpoint import load_checkpoint
    from studies.collection.transferability import score_network

    facts, corpus = load_checkpoint(checkpoint).facts, own.corpus
    if facts.contract.mismatch(corpus.contract):
        return f"left out: {name} takes other leads, another rate or another length than these records have."
    assert known.spearman is not None and known.ci_lower is not None and known.ci_upper is not None
    sizes = sorted({n for n, _, _ in known.cells})
    at = min(sizes, key=lambda n: abs(np.log(n) - np.log(n_records)))
    patients = own.data.patients[own.pool]
    drawn = own.pool[draw_records(patients, min(at, len(own.pool)), stable_seed(own.data.name, SCORE))]
    drawn = np.sort(drawn)
    value = score_network(checkpoint, corpus.signals[own.data.rows[drawn]], own.data.labels[drawn])
    if not np.isfinite(value):
        without = "no label has both records with it and records without it, or the network makes nothing of them"
        return f"left out: of {len(drawn):,} records drawn, {without}."
    scores = [score for n, score, _ in known.cells if n == at]
    below = sum(score < value for score in scores)
    return Score(name, value, len(drawn), below, len(scores), at, known.spearman, known.ci_lower, known.ci_upper)
