"""What a question is asked with, as text or numbers that may contradict each other or make no sense.

``--labels AF:0.04,LBBB:0.02``, ``--events 40,12`` and ``--task-like`` say what the labels are of records that are not
available, ``--prevalence 0.02`` or ``AF:0.02,LBBB:0.01`` what those of the patients are that a network will be used on.
An error spells a name as the asker knows it: ``spell`` makes ``n_records`` an option of the command line, or leaves it.
"""

from collections.abc import Callable
from math import isnan

from advisor.answer.question import NOTHING_PRETRAINED, Question, find_nonsense
from advisor.terminal.failures import Failure
from engine.records.label_names import finding_of
from models.errors import ExitCode
from studies.files.label_levels import Label

_LABELS_FORM = "give names, each with its share of the records: AF:0.04,LBBB:0.02"
_PREVALENCE_FORM = "give the share of patients that has each label, 0.02, or by name: AF:0.02,LBBB:0.01"
_EVENTS_FORM = "give how many of your records have each label: 40,12"


Spell = Callable[[str], str]


def option(field: str) -> str:
    """Return the option of the command line that a field is given by."""
    return f"--{field.replace('_', '-')}"


def labels_asked_for(
    labels: str | None, events: str | None, task_like: str | None, n_records: int, *, has_data: bool,
    spell: Spell = option,
) -> tuple[Label, ...]:  # fmt: skip
    """Return what is said of labels whose records are not given. Raises Failure."""
    given = {"labels": None if has_data else labels, "events": events, "task_like": task_like}
    named = [spell(name) for name, value in given.items() if value is not None]
    if has_data and named:
        raise Failure(f"{named[0]} is read off {spell('data')}: leave it out", ExitCode.USAGE)
    if len(named) > 1:
        raise Failure(f"{' and '.join(named)} say the same in two ways: give one of them", ExitCode.USAGE)
    if not named or task_like is not None:
        return ()
    if labels is not None:
        return read_labels(labels, spell("labels"))
    return read_events(events or "", n_records, spell("events"))


def refuse_nonsense(question: Question, from_: str | None, spell: Spell = option) -> None:
    """Raise Failure for a value that no question can have. ``from_`` names a network too."""
    nonsense = find_nonsense(question, spell, names_network=question.arch is not None or from_ is not None)
    if nonsense is not None:
        raise Failure(nonsense, ExitCode.USAGE)


def refuse_contradictions(
    upstream: str | None, from_: str | None, uses: int | None, task: str | None, task_like: str | None,
    spell: Spell = option,
) -> None:  # fmt: skip
    """Raise Failure for options that make no sense together."""
    contradictions = {
        f"{spell('upstream')} {NOTHING_PRETRAINED} says that you have no pre-trained network, and {spell('from')} "
        "names one": upstream == NOTHING_PRETRAINED and from_ is not None,
        f"{spell('uses')} shares the cost of a pre-training that you pay for, and {spell('from')} names a network "
        "that is there": uses is not None and from_ is not None,
        f"{spell('task')} answers from one task alone, and {spell('task_like')} moves the answer from all of them": (
            task is not None and task_like is not None
        ),
    }
    for said, is_so in contradictions.items():
        if is_so:
            raise Failure(f"{said}: leave one of them out", ExitCode.USAGE)


def read_labels(given: str, spelled: str = "--labels") -> tuple[Label, ...]:
    """Return the labels. Raises Failure."""
    shares = (_read_share(one, spelled, _LABELS_FORM) for one in given.split(","))
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


def read_events(given: str, n_records: int, spelled: str = "--events") -> tuple[Label, ...]:
    """Return a label without a name for each number of records. Raises Failure."""
    labels = []
    for one in given.split(","):
        count = int(one) if one.strip().isascii() and one.strip().isdigit() else 0
        if not 0 < count < n_records:
            raise Failure(f"{spelled} {one.strip()!r} of {n_records:,} records: {_EVENTS_FORM}", ExitCode.USAGE)
        labels.append(Label(None, count / n_records))
    return tuple(labels)
