"""What ``--labels AF:0.04,LBBB:0.02`` and ``--events 40,12`` say of the labels of records that are not available.

And ``--prevalence 0.02`` or ``AF:0.02,LBBB:0.01`` of the patients that a network will be used on.
"""

from math import isnan

from advisor.terminal.failures import Failure
from engine.records.label_names import finding_of
from models.errors import ExitCode
from studies.files.label_levels import Label

_LABELS_FORM = "give names, each with its share of the records: AF:0.04,LBBB:0.02"
_PREVALENCE_FORM = "give the share of patients that has each label, 0.02, or by name: AF:0.02,LBBB:0.01"
_EVENTS_FORM = "give how many of your records have each label: 40,12"


def read_labels(given: str) -> tuple[Label, ...]:
    """Return the labels. Raises Failure."""
    shares = (_read_share(one, "--labels", _LABELS_FORM) for one in given.split(","))
    return tuple(Label(finding_of(name), share) for name, share in shares)


def read_prevalence(given: str) -> float | dict[str, float]:
    """Return the prevalence of all labels, or of each that is named. Raises Failure."""
    if (share := _number(given)) is not None:
        return share
    return dict(_read_share(one, "--prevalence", _PREVALENCE_FORM) for one in given.split(","))


def _read_share(given: str, option: str, form: str) -> tuple[str, float]:
    name, _, number = given.strip().rpartition(":")
    share = _number(number)
    if not name.strip() or share is None:
        raise Failure(f"{option} {given.strip()!r}: {form}", ExitCode.USAGE)
    return name.strip(), share


def _number(given: str) -> float | None:
    try:
        number = float(given)
    except ValueError:
        return None
    return None if isnan(number) else number


def read_events(given: str, n_records: int) -> tuple[Label, ...]:
    """Return a label without a name for each number of records. Raises Failure."""
    labels = []
    for one in given.split(","):
        count = int(one) if one.strip().isascii() and one.strip().isdigit() else 0
        if not 0 < count < n_records:
            raise Failure(f"--events {one.strip()!r} of {n_records:,} records: {_EVENTS_FORM}", ExitCode.USAGE)
        labels.append(Label(None, count / n_records))
    return tuple(labels)
