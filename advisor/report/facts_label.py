"""The facts label of the advice: what it was made from, for whom, and what it does not know.

After Sendak et al., "Presenting machine learning model information to clinical end users with model facts labels", npj
Digital Medicine 3:41 (2020): its sections in its order, about advice on model development in place of a model.
"""

from collections.abc import Iterable, Mapping

from advisor.answer.recommend import Recommendation
from advisor.answer.words import METRICS, compares_more, count
from advisor.report.html import bullets, facts, paragraph
from advisor.text.explanation import Explanation, single_tasks
from advisor.text.explanation_text import runs_in_words
from studies.files.curve import PilotCurve, PooledCurve

_NOT_MEASURED = "not measured"


def facts_label(answer: Recommendation, explanation: Explanation, is_of_own: bool) -> str:
    """Return the label as HTML, without its frame; ``is_of_own`` tells that the asker's own records were read."""
    sections = {
        "Summary": paragraph(
            "Estimates whether a pre-trained network that is fine-tuned on a number of labelled ECG records scores "
            "better than the same network trained from scratch on them, by how much, and at what cost. Research use; "
            "not a medical device, and no statement about any patient."
        ),
        "Mechanism": facts(_mechanism(answer, explanation).items()),
        "Validation and performance": facts(_performance(answer, explanation).items()),
        "Uses and directions": bullets(_USES),
        "Warnings": bullets(_warnings(answer, is_of_own)),
        "Other information": facts(_other(answer, explanation).items()),
    }
    return "".join(f"<h3>{title}</h3>{body}" for title, body in sections.items())


_USES = (
    "Benefits: not shown. No study of what teams gain by this advice is recorded.",
    "Use: before training, to choose between the two strategies, and to decide on more labels or more runs.",
    "Before use: compare your records with those above, and confirm the choice with paired runs on your own.",
    "Do not use: to judge a trained model, to justify its use on patients, or for records unlike those above.",
)


def _mechanism(answer: Recommendation, explanation: Explanation) -> dict[str, str]:
    curve, question = answer.curve, answer.question
    metric = METRICS.get(question.metric, question.metric)
    tasks = (curve.task,) if isinstance(curve, PilotCurve) else curve.measured_tasks
    sources = _each(explanation.sources, "name", "version")
    tested = "" if curve.test_records is None else f", tested on {count(curve.test_records, 'record')}"
    measured = f"{min(curve.measured_sizes):,} to {max(curve.measured_sizes):,} records{single_tasks(answer)}"
    each, best = "either", ""
    if compares_more(answer):
        each, best = "every", "the arm with the best expected score and its expected loss; "
    others = "".join(f", and {runs_in_words(part)}" for part in curve.rests_on[1:])
    return {
        "outcome": f"expected {metric} of {each} strategy, and their difference",
        "output": f"{best}a verdict where a choice loses at most the margin (90 %) or gains it (80 %); 90 % bands",
        "for whom": "teams that develop networks on labelled ECG records",
        "made from": f"{count(curve.runs, 'run')} of {curve.arch} on {', '.join(tasks)}, {measured}, "
        f"{count(curve.replicates, 'pair')} or more at each size{tested}{others}",
        "records": sources or "not recorded",
        "pre-trained on": f"{curve.upstream}{f': {explanation.upstream}' if explanation.upstream else ''}",
        "input": "a number of records, a network, what it is pre-trained on, a margin, labels and prices where given",
        "kind of model": "power laws with room to bend, fitted to paired runs"
        + (", pooled over tasks by random effects" if isinstance(curve, PooledCurve) or curve.is_updated else "")
        + (", given the scores of a pilot" if curve.is_updated else ""),
    }


def _performance(answer: Recommendation, explanation: Explanation) -> dict[str, str]:
    found = explanation.backtest
    corpora = ", ".join(sorted({task.split("/")[0] for task in answer.curve.measured_tasks}))
    unknown = {f"on records other than {corpora}": _NOT_MEASURED, "in prospective use": _NOT_MEASURED}
    if found is None:
        return {"on held-out runs": _NOT_MEASURED} | unknown
    lost, held = found.regret.get("advice"), found.coverage.get("gain")
    return {
        "on held-out runs": f"{count(found.cells, 'cell')} of {count(found.tasks, 'task')}",
        "regret of this advice": _NOT_MEASURED if lost is None else f"{lost:.4f}",
        "90 % bands that held": _NOT_MEASURED if held is None else f"{held:.0%}, of the gain",
        "more": "the next section",
    } | unknown


def _known(answer: Recommendation) -> str:
    """Say what the question says of the records, and what it does not."""
    if answer.question.labels or answer.question.task_like is not None:
        return "how many there are and their labels: not their leads"
    return "how many there are: not their leads, labels"


def _warnings(answer: Recommendation, is_of_own: bool) -> tuple[str, ...]:
    one_task = len(answer.curve.measured_tasks) == 1
    return (
        "It knows leads and labels of your records, and how many there are: not their quality or how patients came in."
        if is_of_own
        else f"It knows nothing of your records but {_known(answer)}, quality or patients.",
        "How far other datasets differ is in no band, because one task was measured."
        if one_task
        else "How far a new dataset differs is judged from the tasks above; yours may differ more.",
        "It knows one recipe and the networks and pre-trainings that were measured.",
        "Fairness was not looked at: no score by sex, age or origin is in it.",
    )


def _each(sources: Iterable[Mapping[str, str]], *keys: str) -> str:
    return "; ".join(filter(None, (" ".join(source[key] for key in keys if key in source) for source in sources)))


def _licences(sources: Iterable[Mapping[str, str]]) -> str:
    return "; ".join(f"{source['licence']} ({source.get('name', '')})" for source in sources if "licence" in source)


def _other(answer: Recommendation, explanation: Explanation) -> dict[str, str]:
    return {
        "licence of the records": _licences(explanation.sources) or "not recorded",
        "evidence": f"{answer.curves.study}, {answer.curves.created[:10]}, ecgadvise {answer.curves.version}",
        "approved by": "nobody",
        "related": "the sections Limits and Provenance of this page",
    }
