"""Which curve of the evidence answers a question.

A network's curves differ in task and upstream. With three tasks or more the pooled curve, which predicts a dataset
that nobody has measured, goes before any single one, of several the one with the most tasks; with fewer it is the task
with most runs. Of several upstreams of a task the one without its labels answers, as between two hospitals; one has to
be chosen only where that is none of them, or more than one. Of curves of several precisions those of one answer: the
precision with a pool of most tasks, then with most runs behind a curve, of equals float32. What the asker says of the
labels moves the pooled curve alone. Runs that start from a network which somebody else pre-trained (``zoo:NAME``)
answer where it is named and, unless they are all there is, nowhere else; and nothing else answers for it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TypeGuard

from advisor.answer.question import (
    NOTHING_PRETRAINED,
    NoEvidenceError,
    NoRunsFromError,
    Question,
    UnknownNameError,
    UnknownUpstreamError,
)
from models.foundation_models import describe_foundation_model, find_foundation_model
from studies.files.arms import FINE_TUNE, RANDOM_CONVOLUTIONS
from studies.files.curve import Curve, MeasuredCurve, PooledCurve
from studies.files.curves import RELEASED, CurvesFile, corpus_of, is_disjoint, is_released
from studies.files.draws import REACH
from studies.files.falling import falls, why_it_falls
from studies.files.label_levels import Label
from studies.files.precision import standing_order

FEWEST_POOLED = 3  # tasks; from two nobody can tell how far a third differs


class _OtherTaskError(NoEvidenceError):
    """The network was not measured on the task asked about, others were."""


def with_network_named(question: Question, curves: CurvesFile) -> Question:
    """Spell the network that the question starts from as the evidence does, with its architecture; others stay.

    ``NAME``, ``zoo:NAME`` and both in any case are such names. Raises NoRunsFromError for a network from which no run
    starts, UnknownNameError for an ``arch`` that the network is not of.
    """
    wanted = question.upstream or NOTHING_PRETRAINED
    known = {curve.upstream for curve in curves.curves}
    if wanted == NOTHING_PRETRAINED or wanted in {*known, *map(corpus_of, known)} - released_in(curves):
        return question
    plain = wanted.casefold().removeprefix(RELEASED)
    named = next((one for one in released_in(curves) if one.casefold() == f"{RELEASED}{plain}"), None)
    if named is None:
        bare = wanted[len(RELEASED) :] if is_released(wanted.casefold()) else wanted
        if bare != wanted or find_foundation_model(bare) is not None:
            raise NoRunsFromError(find_foundation_model(bare) or bare)
        return question
    family, arch = next((curve.family, curve.arch) for curve in curves.curves if curve.upstream == named)
    if question.arch not in (None, family, arch):
        raise UnknownNameError(f"{named.removeprefix(RELEASED)} is {arch}: leave out --arch {question.arch}")
    return replace(question, upstream=named, arch=arch)


def released_in(curves: CurvesFile) -> set[str]:
    """Return the networks of somebody else's that runs start from, each as ``zoo:NAME``."""
    return {curve.upstream for curve in curves.curves if is_released(curve.upstream)}


def choose_curve(question: Question, arch: str, curves: CurvesFile) -> Curve:
    """Return the curve that answers for a network or a family.

    Raises UnknownNameError for a name that does not exist, NoEvidenceError when nothing was measured near enough.
    """
    curve = _find(question, arch, curves)
    if curve.support(question.n_records) == "beyond":
        (low, high), (least, most) = (min(curve.sizes), max(curve.sizes)), curve.reach
        raise NoEvidenceError(
            f"{curve.arch} was measured from {low:,} to {high:,} records, and no answer is given beyond "
            f"{REACH:g} times that range ({least:,} to {most:,}): {question.n_records:,} is outside"
            f"{_elsewhere(question, curve, curves)}"
        )
    if not isinstance(curve, PooledCurve):
        return curve
    return curve.given(labels_of(question, curves), question.test_records)


def tasks_behind(arch: str, curves: CurvesFile) -> tuple[str, ...]:
    """Return the tasks that a network answers from where neither task nor upstream is asked for; none without one."""
    try:
        return _find(Question(1), arch, curves).measured_tasks
    except (UnknownNameError, NoEvidenceError):
        return ()


def labels_of(question: Question, curves: CurvesFile) -> tuple[Label, ...]:
    """Return what the asker says of the labels: the labels, or a measured task with labels like them.

    Raises UnknownNameError for a task whose labels are not known.
    """
    wanted = question.task_like
    if wanted is None:
        return question.labels
    known = {curve.task: curve.prevalence for curve in curves.measured if curve.prevalence}
    if wanted not in known:
        offer = _offer(wanted, known) if known else "of none of its tasks this evidence says what the labels are"
        raise UnknownNameError(f"the labels of {wanted!r} are not known; {offer}")
    from engine.records.label_names import finding_of  # here: few questions name a task, and all would wait for it

    source = wanted.split("/")[0]
    return tuple(Label(finding_of(name, source), share) for name, share in known[wanted].items())


def _elsewhere(question: Question, pool: Curve, curves: CurvesFile) -> str:
    """Name a task that reaches further than the pool it is in."""
    if not isinstance(pool, PooledCurve):
        return ""
    for curve in sorted(curves.parts_of(pool), key=lambda curve: -curve.runs):
        if FINE_TUNE in curve.draws and curve.support(question.n_records) != "beyond":
            return (
                f" what its {len(pool.tasks)} tasks reach together; one of them alone answers with --task {curve.task}"
            )
    return ""


def choose_curves(question: Question, curves: CurvesFile) -> tuple[list[Curve], list[str]]:
    """Return a curve for every measured network that can be compared with the others, and why others are left out.

    Scores are compared within one task, or one pool of tasks: the one that most networks have.
    Raises as ``choose_curve`` does, for the first network, when none has an answer.
    """
    is_given = bool(labels_of(question, curves))  # raises for all networks alike
    found: list[Curve] = []
    errors: list[UnknownNameError | NoEvidenceError] = []
    archs = list(dict.fromkeys(curve.arch for curve in curves.curves))
    elsewhere = _started_elsewhere(question, archs, curves)
    for arch in (arch for arch in archs if arch not in elsewhere):
        try:
            found.append(choose_curve(question, arch, curves))
        except (UnknownNameError, NoEvidenceError) as error:
            errors.append(error)
    if not found:
        if all(isinstance(error, UnknownUpstreamError) for error in errors):
            raise _unknown_upstream("network", question.upstream or "", curves.curves)
        raise next((error for error in errors if not isinstance(error, _OtherTaskError)), errors[0])
    found, blind = _same_labels(found) if is_given else (found, [])
    kinds = Counter(_compared_on(curve) for curve in found)
    common = max(kinds, key=lambda kind: (kinds[kind], kind[0]))
    compared = [curve for curve in found if _compared_on(curve) == common]
    theirs = {task for curve in compared for task in curve.measured_tasks}
    left_out = [_apart(curve, theirs, curves) for curve in found if _compared_on(curve) != common]
    return compared, [*left_out, *blind, *map(str, errors)]


def _started_elsewhere(question: Question, archs: Sequence[str], curves: CurvesFile) -> set[str]:
    """Return the networks that were fine-tuned from somebody else's alone; none where all were, or that is asked."""
    if is_released(question.upstream or ""):
        return set()
    starts = {arch: {curve.upstream for curve in curves.curves if curve.arch == arch and FINE_TUNE in curve.draws}
              for arch in archs}  # fmt: skip
    found = {arch for arch, of in starts.items() if of and all(map(is_released, of))}
    return set() if len(found) == len(archs) else found


def _same_labels(found: list[Curve]) -> tuple[list[Curve], list[str]]:
    """Keep the curves that are given the asker's labels, where any is: scores of other labels do not compare."""
    given: list[Curve] = [curve for curve in found if isinstance(curve, PooledCurve) and curve.labels]
    others = [curve for curve in found if curve not in given]
    if not given:
        return found, []
    return given, [f"what labels say of {curve.arch}'s scores was not measured" for curve in others]


def _compared_on(curve: Curve) -> tuple[bool, str]:
    """Return whether a curve is pooled, and its task: networks are compared where both are the same."""
    return isinstance(curve, PooledCurve), curve.task


def _apart(curve: Curve, theirs: set[str], curves: CurvesFile) -> str:
    """Say why a curve is not compared with those of the tasks ``theirs``."""
    alike = (other for other in curves.curves if other.arch == curve.arch and FINE_TUNE in other.draws)
    mine = {task for other in alike for task in other.measured_tasks}
    if mine < theirs:
        return f"{curve.arch} was measured on fewer tasks ({len(mine)} of the {len(theirs)})"
    if mine >= theirs:
        return f"{curve.arch} answers from {'more tasks' if isinstance(curve, PooledCurve) else curve.task}"
    return f"{curve.arch} was measured on other tasks"


def is_pool(curve: Curve) -> TypeGuard[PooledCurve]:
    """Say whether a curve predicts a new dataset from tasks enough to tell how far datasets differ."""
    return isinstance(curve, PooledCurve) and len(curve.tasks) >= FEWEST_POOLED


def _find(question: Question, asked: str, curves: CurvesFile) -> Curve:
    arch = curves.family_default.get(asked, asked)
    _check_arch(asked, arch, curves)
    found = sorted((curve for curve in curves.curves if curve.arch == arch), key=lambda curve: -curve.runs)
    found = [curve for curve in found if FINE_TUNE in curve.draws]
    if not found:
        raise NoEvidenceError(f"study {curves.study} ran {arch} from scratch only; see ecgadvise curves show")
    found = _with_metric(found, question.metric)
    found = _with_upstream(found, question.upstream)
    found = _of_one_precision(_with_task(found, question, curves))
    if pools := [curve for curve in found if isinstance(curve, PooledCurve)]:
        return max(pools, key=lambda curve: (len(curve.tasks), is_disjoint(curve.upstream), curve.runs))
    found = _main_arm(found)
    offered = sorted({curve.upstream for curve in found})
    if len(offered) > 1 and question.upstream != NOTHING_PRETRAINED:
        raise UnknownNameError(f"{arch} was pre-trained on {' and on '.join(offered)}: choose one with --upstream")
    return found[0]


def _of_one_precision(found: Sequence[Curve]) -> list[Curve]:
    """Keep the curves of the precision with most support; ``found`` is of one task, or of pools."""

    def support(precision: str | None) -> tuple[int, int, int]:
        of_it = [curve for curve in found if curve.precision == precision]
        tasks = max(len(curve.measured_tasks) for curve in of_it)
        return tasks, max(curve.runs for curve in of_it), -standing_order(precision)

    chosen = max({curve.precision for curve in found}, key=support)
    return [curve for curve in found if curve.precision == chosen]


def _main_arm(found: Sequence[Curve]) -> list[Curve]:
    """Keep the curves whose upstream has none of the task's labels; all where none is known not to."""
    known = [curve for curve in found if isinstance(curve, MeasuredCurve) and is_disjoint(curve.kind or "")]
    return [*known] if known else list(found)


def _with_metric(found: Sequence[Curve], metric: str) -> list[Curve]:
    kept = [curve for curve in found if curve.metric == metric]
    if not kept:
        metrics = sorted({curve.metric for curve in found})
        rising = ", ".join(name for name in metrics if not falls(name))
        offered = f"it has {rising}" if rising else f"its {why_it_falls(metrics[0])}"
        raise UnknownNameError(f"the evidence has no metric {metric!r}; {offered}")
    return kept


def _with_upstream(found: Sequence[Curve], wanted: str | None) -> list[Curve]:
    """Keep the curves of an upstream, named in full or by its corpus; without a name those of tasks, where any are."""
    if wanted is None or wanted == NOTHING_PRETRAINED:
        return [curve for curve in found if not is_released(curve.upstream)] or list(found)
    kept = [curve for curve in found if wanted in (curve.upstream, corpus_of(curve.upstream))]
    if not kept:
        raise _unknown_upstream(found[0].arch, wanted, found)
    return kept


def _unknown_upstream(network: str, wanted: str, found: Iterable[Curve]) -> UnknownUpstreamError:
    """Return the error for an upstream that none of the curves ``found`` is of, with the names of theirs."""
    offered = sorted({curve.upstream.removeprefix(RELEASED) for curve in found if FINE_TUNE in curve.draws})
    near = get_close_matches(wanted, offered, n=1)
    nearest = f"the nearest name is {near[0]!r}; " if near else ""
    return UnknownUpstreamError(
        f"no {network} was pre-trained on {wanted!r}; {nearest}the evidence has {', '.join(offered)} "
        f"(--upstream {NOTHING_PRETRAINED} when you have none)",
        wanted,
    )


def _with_task(found: Sequence[Curve], question: Question, curves: CurvesFile) -> list[Curve]:
    """Keep the curves of one task, or those of a pool of tasks; ``found`` has the most runs first."""
    single = [curve for curve in found if not isinstance(curve, PooledCurve)]
    if question.task is not None:
        kept = [curve for curve in single if curve.task == question.task]
        if not kept:
            raise _without_task(found[0].arch, question.task, question, curves)
        return kept
    if pools := [curve for curve in found if is_pool(curve)]:
        return [*pools]
    return [curve for curve in single if curve.task == single[0].task] or list(found)


def _without_task(arch: str, wanted: str, question: Question, curves: CurvesFile) -> LookupError:
    """Return the error for a task that the network was not measured on, or that nobody was."""
    archs = list(dict.fromkeys(curve.arch for curve in curves.measured if curve.task == wanted))
    if not archs:
        names = {curve.task for curve in curves.measured if curve.arch == arch}
        return UnknownNameError(f"the evidence has no task {wanted!r}; {_offer(wanted, names)}")
    if arch in archs:
        asked = "" if question.upstream in (None, NOTHING_PRETRAINED) else f" from {question.upstream}"
        return NoEvidenceError(
            f"{arch} was not measured on {wanted} fine-tuned{asked} and scored by {question.metric}; "
            "see ecgadvise curves show"
        )
    return _OtherTaskError(f"{arch} was not measured on {wanted}; {' and '.join(archs)} {_were(archs)}")


def _were(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _offer(wanted: str, names: Iterable[str]) -> str:
    near = get_close_matches(wanted, sorted(names), n=1, cutoff=0.0)
    return f"the nearest name is {near[0]!r}" if near else "it has no task of its own"


def _check_arch(asked: str, arch: str, curves: CurvesFile) -> None:
    families = {curve.arch: curve.family for curve in curves.curves}
    if arch in families:
        return
    measured = ", ".join(f"{name} ({family})" for name, family in families.items())
    if arch in {"cnn", "rnn"} or arch in curves.registered or _width_of(arch) in curves.registered:
        raise NoEvidenceError(f"study {curves.study} did not measure {asked}; it measured {measured}")
    if (foundation := describe_foundation_model(asked)) is not None:
        raise UnknownNameError(f"{foundation} (measured: {measured})")
    if arch == RANDOM_CONVOLUTIONS:
        raise UnknownNameError(f"{arch} are an arm that is compared next to every network: leave out --arch {arch}")
    near = get_close_matches(asked, ["cnn", "rnn", *families, *curves.registered], n=1, cutoff=0.0)[0]
    raise UnknownNameError(f"no network is named {asked!r}; the nearest name is {near!r} (measured: {measured})")


def _width_of(arch: str) -> str:
    """Return the name without a ``-wN`` ending."""
    base, _, width = arch.rpartition("-w")
    return base if width.isdigit() else arch
