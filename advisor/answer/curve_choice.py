"""Which curve of the evidence answers a question.

A network's curves differ in task and upstream. With three tasks or more the pooled curve, which foretells a dataset
that nobody has measured, goes before any single one, of several the one with the most tasks; with fewer it is the task
with most runs. Of several upstreams of a task the one without its labels answers, as between two hospitals; one has to
be chosen only where that is none of them, or more than one.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from advisor.answer.question import NOTHING_PRETRAINED, NoEvidenceError, Question, UnknownNameError
from studies.files.arms import FINE_TUNE
from studies.files.curves import CurvesFile, PairedCurve, corpus_of, is_disjoint
from studies.files.draws import REACH

FEWEST_POOLED = 3  # tasks; from two nobody can tell how far a third differs


class _OtherTaskError(NoEvidenceError):
    """The network was not measured on the task asked about, others were."""


def choose_curve(question: Question, arch: str, curves: CurvesFile) -> PairedCurve:
    """Return the curve that answers for a network or a family.

    Raises UnknownNameError for a name that does not exist, NoEvidenceError when nothing was measured near enough.
    """
    curve = _find(question, arch, curves)
    if curve.support(question.n_records) == "beyond":
        low, high = min(curve.sizes), max(curve.sizes)
        raise NoEvidenceError(
            f"{curve.arch} was measured from {low:,} to {high:,} records, and no answer is given beyond "
            f"{REACH:g} times that range ({low / REACH:,.0f} to {high * REACH:,.0f}): {question.n_records:,} is outside"
            f"{_elsewhere(question, curve, curves)}"
        )
    return curve


def _elsewhere(question: Question, pool: PairedCurve, curves: CurvesFile) -> str:
    """Name a task that reaches further than the pool it is in."""
    for curve in sorted(curves.curves, key=lambda curve: -curve.runs):
        is_of_pool = pool.pooled and not curve.pooled and curve.arch == pool.arch and curve.task in pool.tasks
        if is_of_pool and FINE_TUNE in curve.draws and curve.support(question.n_records) != "beyond":
            return (
                f" what its {len(pool.tasks)} tasks reach together; one of them alone answers with --task {curve.task}"
            )
    return ""


def choose_curves(question: Question, curves: CurvesFile) -> tuple[list[PairedCurve], list[str]]:
    """Return a curve for every measured network that can be compared with the others, and why others are left out.

    Scores are compared within one task, or one pool of tasks: the one that most networks have.
    Raises as ``choose_curve`` does, for the first network, when none has an answer.
    """
    found, errors = [], []
    for arch in dict.fromkeys(curve.arch for curve in curves.curves):
        try:
            found.append(choose_curve(question, arch, curves))
        except (UnknownNameError, NoEvidenceError) as error:
            errors.append(error)
    if not found:
        raise next((error for error in errors if not isinstance(error, _OtherTaskError)), errors[0])
    kinds = Counter((curve.pooled, curve.task) for curve in found)
    common = max(kinds, key=lambda kind: (kinds[kind], kind[0]))
    compared = [curve for curve in found if (curve.pooled, curve.task) == common]
    theirs = {task for curve in compared for task in curve.tasks or (curve.task,)}
    left_out = [_apart(curve, theirs, curves) for curve in found if (curve.pooled, curve.task) != common]
    return compared, [*left_out, *map(str, errors)]


def _apart(curve: PairedCurve, theirs: set[str], curves: CurvesFile) -> str:
    """Say why a curve is not compared with those of the tasks ``theirs``."""
    alike = (other for other in curves.curves if other.arch == curve.arch and FINE_TUNE in other.draws)
    mine = {task for other in alike for task in other.tasks or (other.task,)}
    if mine < theirs:
        return f"{curve.arch} was measured on fewer tasks ({len(mine)} of the {len(theirs)})"
    if mine >= theirs:
        return f"{curve.arch} answers from {'more tasks' if curve.pooled else curve.task}"
    return f"{curve.arch} was measured on other tasks"


def is_pool(curve: PairedCurve) -> bool:
    """Say whether a curve foretells a new dataset from tasks enough to tell how far datasets differ."""
    return curve.pooled and len(curve.tasks) >= FEWEST_POOLED


def _find(question: Question, asked: str, curves: CurvesFile) -> PairedCurve:
    arch = curves.family_default.get(asked, asked)
    _check_arch(asked, arch, curves)
    found = sorted((curve for curve in curves.curves if curve.arch == arch), key=lambda curve: -curve.runs)
    found = [curve for curve in found if FINE_TUNE in curve.draws]
    if not found:
        raise NoEvidenceError(f"study {curves.study} ran {arch} from scratch only; see ecgadvise curves show")
    found = _with_metric(found, question.metric)
    found = _with_upstream(found, question.upstream)
    found = _with_task(found, question, curves)
    if found[0].pooled:
        return max(found, key=lambda curve: (len(curve.tasks), is_disjoint(curve.upstream), curve.runs))
    found = _main_arm(found)
    offered = sorted({curve.upstream for curve in found})
    if len(offered) > 1 and question.upstream != NOTHING_PRETRAINED:
        raise UnknownNameError(f"{arch} was pre-trained on {' and on '.join(offered)}: choose one with --upstream")
    return found[0]


def _main_arm(found: Sequence[PairedCurve]) -> list[PairedCurve]:
    """Keep the curves whose upstream has none of the task's labels; all where none is known not to."""
    return [curve for curve in found if curve.kind is not None and is_disjoint(curve.kind)] or list(found)


def _with_metric(found: Sequence[PairedCurve], metric: str) -> list[PairedCurve]:
    kept = [curve for curve in found if curve.metric == metric]
    if not kept:
        metrics = sorted({curve.metric for curve in found})
        raise UnknownNameError(f"the evidence has no metric {metric!r}; it has {', '.join(metrics)}")
    return kept


def _with_upstream(found: Sequence[PairedCurve], wanted: str | None) -> list[PairedCurve]:
    """Keep the curves of an upstream, named in full or by its corpus."""
    if wanted in (None, NOTHING_PRETRAINED):
        return list(found)
    kept = [curve for curve in found if wanted in (curve.upstream, corpus_of(curve.upstream))]
    if not kept:
        offered = sorted({curve.upstream for curve in found})
        raise UnknownNameError(
            f"no {found[0].arch} was pre-trained on {wanted!r}; the evidence has {', '.join(offered)} "
            f"(--upstream {NOTHING_PRETRAINED} when you have none)"
        )
    return kept


def _with_task(found: Sequence[PairedCurve], question: Question, curves: CurvesFile) -> list[PairedCurve]:
    """Keep the curves of one task, or those of a pool of tasks; ``found`` has the most runs first."""
    single = [curve for curve in found if not curve.pooled]
    if question.task is not None:
        kept = [curve for curve in single if curve.task == question.task]
        if not kept:
            raise _without_task(found[0].arch, question.task, question, curves)
        return kept
    pooled = [curve for curve in found if is_pool(curve)]
    if pooled or not single:
        return pooled or list(found)
    return [curve for curve in single if curve.task == single[0].task]


def _without_task(arch: str, wanted: str, question: Question, curves: CurvesFile) -> LookupError:
    """Return the error for a task that the network was not measured on, or that nobody was."""
    single = [curve for curve in curves.curves if not curve.pooled]
    archs = list(dict.fromkeys(curve.arch for curve in single if curve.task == wanted))
    if not archs:
        names = {curve.task for curve in single if curve.arch == arch}
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
    near = get_close_matches(asked, ["cnn", "rnn", *families, *curves.registered], n=1, cutoff=0.0)[0]
    raise UnknownNameError(f"no network is named {asked!r}; the nearest name is {near!r} (measured: {measured})")


def _width_of(arch: str) -> str:
    """Return the name without a ``-wN`` ending."""
    base, _, width = arch.rpartition("-w")
    return base if width.isdigit() else arch
