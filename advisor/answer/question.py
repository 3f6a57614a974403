"""What is asked, and the two ways in which a question has no answer."""

from dataclasses import dataclass

from models.errors import ExitCode, UserError
from studies.files.label_levels import Label

NOTHING_PRETRAINED = "none"  # what --upstream is when there is no pre-trained network to start from


class UnknownNameError(UserError, LookupError):
    """The question names a network, a task, an upstream or a metric that does not exist; the message says what does."""

    exit_code = ExitCode.USAGE


class NoEvidenceError(UserError, LookupError):
    """The question is valid, but the evidence does not reach it; the message says how far it goes."""

    exit_code = ExitCode.NO_EVIDENCE


@dataclass(frozen=True)
class Question:
    """What is asked: ``n_records`` labelled records for training and validation together, and a network or family.

    Without ``arch`` the best of the measured networks answers. ``margin`` is the smallest difference of the metric that
    matters to the asker. ``target`` is a score to be reached. Prices are in any one currency: ``label_cost`` a labelled
    record, ``gpu_cost`` an hour of the device; ``device_speed`` is how many records a second the network trains with
    on the asker's device. ``uses`` is how many trainings share a pre-training that has to be paid for. ``labels`` are
    what the records are labelled with, ``task_like`` names a measured task whose labels are like the asker's;
    ``test_records`` is how many will test a training, None where that is not said.
    """

    n_records: int
    arch: str | None = None
    metric: str = "auroc_macro"
    margin: float = 0.01
    upstream: str | None = None
    task: str | None = None
    target: float | None = None
    label_cost: float | None = None
    gpu_cost: float | None = None
    uses: int | None = None
    device_speed: float | None = None
    labels: tuple[Label, ...] = ()
    task_like: str | None = None
    test_records: int | None = None

    @property
    def pays_pretraining(self) -> bool:
        """Whether a pre-training has to be paid for; starting from a network that is available costs nothing."""
        return self.upstream == NOTHING_PRETRAINED or self.uses is not None

    @property
    def is_priced(self) -> bool:
        """Whether the answer can be given in money."""
        return self.label_cost is not None or self.gpu_cost is not None
