"""The values that no question can have."""

from collections.abc import Callable

from advisor.answer.question import Question
from studies.files.curves import UNPRINTABLE
from studies.files.draws import chance_level
from studies.files.falling import why_it_falls

_MOST = 1e12
_LONGEST_NAME = 80
_SLOWEST = 1e-6  # records a second: two a month


def find_nonsense(question: Question, spell: Callable[[str], str], *, names_network: bool) -> str | None:
    """Return a sentence about the first value that the question cannot have, None where all make sense.

    ``spell`` writes a field's name as the asker knows it. A NaN is in no range. A speed is that of one network:
    ``names_network`` says whether there is one.
    """
    chance = chance_level(question.metric)
    if (why := why_it_falls(question.metric)) is not None:
        return f"{spell('metric')}: {why}"
    price = f"give a price from 0 to {_MOST:g}"
    refused = {
        "n_records": (question.n_records, question.n_records >= 1, "give a positive number of labelled records"),
        "margin": (question.margin, 0 < question.margin < 1, "give a difference of the metric between 0 and 1"),
        "target": (
            question.target,
            question.target is None or chance < question.target < 1,
            f"give a score between {chance:g}, which chance reaches, and 1",
        ),
        "label_cost": (question.label_cost, question.label_cost is None or 0 <= question.label_cost <= _MOST, price),
        "gpu_cost": (question.gpu_cost, question.gpu_cost is None or 0 <= question.gpu_cost <= _MOST, price),
        "uses": (
            question.uses,
            question.uses is None or 1 <= question.uses <= _MOST,
            f"give the number of trainings that share a pre-training, from 1 to {_MOST:g}",
        ),
        "device_speed": (
            question.device_speed,
            question.device_speed is None or _SLOWEST <= question.device_speed <= _MOST,
            f"give records a second, from {_SLOWEST:g} to {_MOST:g}",
        ),
    }
    for field, (value, is_sense, remedy) in refused.items():
        if not is_sense:
            shown = f"{value:g}" if isinstance(value, float) else value
            return f"{spell(field)} is {shown}: {remedy}"
    if (wrong := _find_wrong_label(question)) is not None:
        return f"{spell('labels')}: {wrong}"
    if question.device_speed is not None and not names_network:
        return f"{spell('device_speed')} is the speed of one network: name it with {spell('arch')}"
    return None


def _find_wrong_label(question: Question) -> str | None:
    """Say what is wrong with the first label that cannot be, None where all make sense."""
    for label in question.labels:
        name = label.finding or "a label"
        if not 0 < label.prevalence < 1:
            return f"{name} in {label.prevalence:.3g} of the records: give a share between 0 and 1"
        if question.n_records * label.rarer < 1:
            which = "have" if label.rarer == label.prevalence else "lack"
            return f"none of {question.n_records:,} records would {which} {name}"
    named = [label.finding for label in question.labels if label.finding is not None]
    if twice := [name for name in named if named.count(name) > 1]:
        return f"{twice[0]} is named twice"
    if wrong := [name for name in named if not name or len(name) > _LONGEST_NAME or UNPRINTABLE.search(name)]:
        return f"{wrong[0][:20]!r} is no name of a label"
    return None
