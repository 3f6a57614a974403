"""What ``--labels AF:0.04,LBBB:0.02`` and ``--events 40,12`` say of the labels of records that are not available."""

from advisor.terminal.failures import Failure
from engine.records.label_names import finding_of
from models.errors import ExitCode
from studies.files.label_levels import Label

_LABELS_FORM = "give names, each with its share of the records: AF:0.04,LBBB:0.02"
_EVENTS_FORM = "give how many of your records have each label: 40,12"


def read_labels(given: str) -> tuple[Label, ...]:
    """Return the labels. Raises Failure."""
    return tuple(_read_label(one) for one in given.split(","))


def _read_label(given: str) -> Label:
    name, colon, share = given.strip().rpartition(":")
    try:
        prevalence = float(share)
    except ValueError:
        prevalence = float("nan")
    if not colon or not name or prevalence != prevalence:
        raise Failure(f"--labels {given.strip()!r}: {_LABELS_FORM}", ExitCode.USAGE)
    return Label(finding_of(name.strip()), prevalence)


def read_events(given: str, n_records: int) -> tuple[Label, ...]:
    """Return a label without a name for each number of records. Raises Failure."""
    labels = []
    for one in given.split(","):
        count = int(one) if one.strip().isascii() and one.strip().isdigit() else 0
        if not 0 < count < n_records:
            raise Failure(f"--events {one.strip()!r} of {n_records:,} records: {_EVENTS_FORM}", ExitCode.USAGE)
        labels.append(Label(None, count / n_records))
    return tuple(labels)
