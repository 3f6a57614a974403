"""What a job is and came to, in words and tables, from what its command printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advisor.answer.words import VERDICTS, count, duration
from studies.files.arms import ARMS, IN_WORDS, PAIR

if TYPE_CHECKING:
    from advisor.service.jobs.job import Job, Progress

KINDS = {
    "check": "Check of the records",
    "pilot": "Pilot",
    "train": "Training",
    "export": "Export of a model",
    "study": "Study",
}
_LISTED = 30  # classes
_ADVICE = {arm.strategy: arm.advice for arm in ARMS}


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Result:
    """What came of a job: a few words and their ``kind`` for the colour, sentences, tables, and warnings."""

    headline: str
    kind: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    warnings: Sequence[str] = ()


def in_a_sentence(job: "Job", progress: "Progress | None", result: Result | None) -> str:
    """Say where a job is; it changes when that does, and not with every per cent."""
    said = f"{KINDS[job.kind]}: {job.state}"
    if result is not None:
        return f"{said}. {result.headline}"
    if job.problem is not None:
        return f"{said}. {job.problem}"
    if progress is not None and progress.verdict is not None:
        return (
            f"{said}. So far: {progress.verdict['headline'].lower()}, from {count(progress.verdict['pairs'], 'pair')}"
        )
    return said


def so_far(progress: "Progress | None") -> tuple[str, Result] | None:
    """Return from how many pairs a pilot has an answer so far, and that answer."""
    if progress is None or progress.verdict is None:
        return None
    said = progress.verdict
    verdict = VERDICTS[said["verdict"]][0]
    several = said["headline"] != verdict
    why = f"Fine-tune or scratch: {verdict.lower()}. {said['why']}" if several else said["why"]
    return count(said["pairs"], "pair"), Result(said["headline"], "best" if several else said["verdict"], [why])


def time_left(progress: "Progress") -> str:
    """Say how long it will take."""
    return "" if progress.seconds_left is None else f"about {duration(progress.seconds_left)} left"


def result_of(job: "Job") -> Result | None:
    """Return what came of a job that is done, None of another."""
    document = job.answer()
    if not isinstance(document, Mapping):
        return None
    made = {"check": _checked, "pilot": _answered, "train": _trained}.get(job.kind)
    if made is None or "schema_version" not in document:
        return Result("Done", "best", document.get("lines", ()))
    return made(document)


def _checked(found: Mapping[str, Any]) -> Result:
    return Result(f"{found['records']:,} records, {found['unusable']:,} of them unusable", "best")


def _answered(found: Mapping[str, Any]) -> Result:
    """Return the answer of ``recommend --json``, the best arm first where more than two were measured."""
    verdict, arms = VERDICTS[found["verdict"]][0], found["arms"]
    several = len(arms) > len(PAIR)
    headline = _ADVICE[found["best"]].upper() if several else verdict
    sentences = [*([f"Fine-tune or scratch: {verdict.lower()}."] if headline != verdict else []), found["why"]]
    rows = [
        (IN_WORDS[one["strategy"]], *_score(one["score"], ""), f"{one['p_best']:.2f}", *_gain(one["difference"]))
        for one in arms
    ]
    columns = ("strategy", "expected", "90 % band", "P(best)", "over scratch", "90 % band")
    title = f"Expected scores with {found['question']['n_records']:,} records"
    return Result(
        headline, "best" if several else found["verdict"], sentences, [Table(title, columns, rows)], found["warnings"]
    )


def _score(score: Mapping[str, Any], sign: str) -> tuple[str, str]:
    return f"{score['mean']:{sign}.3f}", f"{score['mean_ci_lower']:{sign}.3f} to {score['mean_ci_upper']:{sign}.3f}"


def _gain(difference: Mapping[str, Any] | None) -> tuple[str, str]:
    return ("-", "-") if difference is None else _score(difference, "+")


def _trained(found: Mapping[str, Any]) -> Result:
    """Return what ``train --json`` says of the test records."""
    scores = found["evaluation"]
    headline = (
        f"macro AUROC {_number(scores['auroc_macro'])} (90 %: {_number(scores['auroc_macro_ci_lower'])} to "
        f"{_number(scores['auroc_macro_ci_upper'])})"
    )
    tested = f"On {scores['n_records']:,} test records of {scores['n_patients']:,} patients."
    made = f"{found['arch']}, {IN_WORDS.get(found['strategy'], found['strategy'])}, on {found['n_records']:,} records."
    return Result(headline, "best", [tested, made], [_classes(scores["classes"])], found["warnings"])


def _classes(classes: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        (name, _number(one["auroc"]), f"{_number(one['auroc_ci_lower'])} to {_number(one['auroc_ci_upper'])}",
         _number(one["auprc"]), _number(one["f1"]), _number(one.get("threshold")), f"{one.get('positives', 0):,}")
        for name, one in list(classes.items())[:_LISTED]
    ]  # fmt: skip
    more = len(classes) - _LISTED
    title = "Scores by class" if more <= 0 else f"Scores by class, the first {_LISTED} of {len(classes)}"
    return Table(title, ("class", "AUROC", "90 % interval", "AUPRC", "F1", "threshold", "records"), rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def asked_in_words(request: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what was asked for, without what was left as it is; ``names`` are those of datasets."""
    left = {"kind", "dataset"}
    rows = [(name.replace("_", " "), _in_words(value)) for name, value in request.items()
            if name not in left and value not in (None, False, {}, "")]  # fmt: skip
    named = [names.get(request["dataset"], request["dataset"])] if request.get("dataset") else []
    return [*(("dataset", name) for name in named), *rows]


def _in_words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
