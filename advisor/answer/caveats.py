"""What the reader of an answer must know and the numbers do not show, the most important first."""

from collections.abc import Iterator, Mapping

from advisor.answer.arms import not_measured
from advisor.answer.costs import PRETRAINING, Cost, Money
from advisor.answer.curve_choice import is_pool
from advisor.answer.question import NOTHING_PRETRAINED, Question
from advisor.answer.words import count
from engine.checkpoints.zoo_index import NOT_CONTROLLED, PRETRAINED_HERE
from studies.files.arms import ARMS, FURTHER, SCRATCH, arms_in
from studies.files.curve import Curve, MeasuredCurve, PilotCurve, PooledCurve, Support
from studies.files.curves import RELEASED, CurvesFile, is_released, start_in_words
from studies.files.draws import REACH, Interval
from studies.files.precision import FLOAT32, in_words

_FEW_POSITIVES = 10
_NEAR = 1.4  # times a pilot's largest size: all records to learn from, of which it learns from three quarters
_SITES = 8  # with fewer, how far they differ is not known to 30 % (METHODS.md, Labels of a new dataset)


def warn(
    question: Question, curve: Curve, curves: CurvesFile, support: Support,
    numbers_of_records: tuple[Interval, ...], cost: Mapping[str, Cost], money: Money | None,
) -> list[str]:  # fmt: skip
    """Return the warnings of an answer, a sentence each."""
    return [
        *_of_evidence(question, curve, curves, support),
        *(f"{message[0].upper()}{message[1:]}." for message in curve.warnings),
        *_of_pretraining(question, curve, cost, money),
        *_of_missing_values(numbers_of_records),
        *_of_costs(question, cost, money),
    ]


def _of_evidence(question: Question, curve: Curve, curves: CurvesFile, support: Support) -> Iterator[str]:
    yield from _of_labels(question, curve)
    if not curve.is_updated:
        yield from _of_sizes(question.n_records, curve, curves, support)
    yield _of_tasks(question, curve, curves)
    yield from _of_missing_arms(question, curve, curves)
    yield from _of_start(curve, curves)
    yield from _of_other_upstreams(curve, curves)
    yield from _of_precision(curve, curves)
    if far := _beyond_pilot(question, curve):
        yield far
    yield from _of_hospitals(curve)
    if question.arch is not None and curve.arch != question.arch:
        parameters = curves.networks[curve.arch].parameters
        size = "" if parameters is None else f" ({parameters:,} parameters)"
        yield f"{question.arch} stands for {curve.arch}{size}; others may differ."


def _of_sizes(n_records: int, curve: Curve, curves: CurvesFile, support: Support) -> Iterator[str]:
    """Say from which numbers of records an answer is carried on, how far single tasks go, and which arms differ."""
    low, high = min(curve.sizes), max(curve.sizes)
    ranges = curves.ranges_of(curve)
    if support == "extrapolated":
        further = _further_tasks(n_records, ranges[SCRATCH], low, high)
        yield f"Extrapolated to {n_records:,} records from runs with {low:,} to {high:,}{further}."
    ends = {arm: (min(first for first, _ in of.values()), max(last for _, last in of.values()))
            for arm, of in ranges.items()}  # fmt: skip
    for arm in arms_in(ends):
        first, last = ends[arm.strategy]
        if ends[arm.strategy] != ends[SCRATCH] and (support == "extrapolated" or not first <= n_records <= last):
            yield f"Runs of {arm.words} were with {first:,} to {last:,} records."


def _further_tasks(n_records: int, ranges: Mapping[str, tuple[int, int]], low: int, high: int) -> str:
    """Count the tasks of a pool that were run nearer to ``n_records`` than most, which are from ``low`` to ``high``."""
    if n_records > high:
        sizes = [last for _, last in ranges.values() if last > high]
        reached = f"up to {max(sizes, default=high):,}"
    else:
        sizes = [first for first, _ in ranges.values() if first < low]
        reached = f"as few as {min(sizes, default=low):,}"
    were = "was" if len(sizes) == 1 else "were"
    return f"; {len(sizes)} of the {count(len(ranges), 'task')} {were} run with {reached}" if sizes else ""


def _of_hospitals(curve: Curve) -> Iterator[str]:
    """Say where the tested records are of the hospitals that the pre-training's are of."""
    corpora = [task.split("/")[0] for task in curve.measured_tasks]
    same = corpora.count(curve.upstream.split("/")[0])
    if same == len(corpora):
        networks = "Pre-trained networks of one corpus" if isinstance(curve, PooledCurve) else "One pre-trained network"
        yield (
            f"{networks} ({curve.upstream}), and the same hospitals' records upstream and in the task, "
            "patients apart: another may transfer less."
        )
    elif same:
        yield (
            f"{same} of the {len(corpora)} tasks {'is' if same == 1 else 'are'} of the hospitals whose records the "
            "networks were pre-trained on, patients apart: another may transfer less."
        )


def _beyond_pilot(question: Question, curve: Curve) -> str | None:
    """Say how far the pilot's sizes are from the asker's number of records."""
    measured = curve.measured_sizes
    if curve.is_updated and not 0.9 * measured[0] <= question.n_records <= _NEAR * measured[-1]:
        low, high = measured[0], measured[-1]
        return f"The pilot ran from {low:,} to {high:,} records; at {question.n_records:,} the other tasks say most."
    return None


def _of_other_upstreams(curve: Curve, curves: CurvesFile) -> Iterator[str]:
    """Name what else a task's network was pre-trained on: another upstream transfers more, or less.

    Networks of somebody else's are not named: few askers have them, and those who do name them.
    """
    if not isinstance(curve, MeasuredCurve):
        return
    key = (curve.task, curve.arch, curve.metric, curve.precision)
    alike = (other for other in curves.measured if (other.task, other.arch, other.metric, other.precision) == key)
    found = sorted({one.upstream for one in alike if not is_released(one.upstream)} - {curve.upstream})
    if found:
        yield f"Measured too, pre-trained on {' and on '.join(found)}: --upstream."


def _of_start(curve: Curve, curves: CurvesFile) -> Iterator[str]:
    """Say what an answer about a network of somebody else's does not know, and on how few tasks it rests."""
    upstream = curve.rests_on[-1].upstream
    name, described = upstream.removeprefix(RELEASED), curves.upstreams.get(upstream, "")
    if not is_released(upstream):
        if NOT_CONTROLLED in described:  # of a pilot alone
            yield "Fine-tuning starts from a network whose pre-training was not controlled here."
        return
    if PRETRAINED_HERE not in described:
        yield f"Fine-tuning starts from {name}, whose pre-training was not controlled here."
    tasks = sorted({one.task for one in curves.measured if one.upstream == curve.upstream})
    if tasks and not is_pool(curve):
        more = "" if len(tasks) == 1 else f" ({', '.join(tasks)}), too few to say how far others differ"
        yield f"Runs from {name} are of {count(len(tasks), 'task')}{more}."


def _of_missing_arms(question: Question, curve: Curve, curves: CurvesFile) -> Iterator[str]:
    """Name the further arms that the evidence has, but not for this network and task, and how a pilot has them."""
    if isinstance(curve, PilotCurve):
        yield from _of_arms_after_pilot(question, curve)
    known = {arm for other in (*curves.curves, *curve.rests_on) for arm in other.draws} - set(curve.draws)
    if missing := [arm.words for arm in FURTHER if arm.strategy in known & set(not_measured(curve))]:
        on = "two tasks or more" if isinstance(curve, PooledCurve) else curve.task
        here = "in the pilot" if isinstance(curve, PilotCurve) else f"with {curve.arch} on {on}"
        yield f"Not measured {here}, and not compared: {' and '.join(missing)}."


def _of_arms_after_pilot(question: Question, curve: PilotCurve) -> Iterator[str]:
    """Say which further arms the pilot has not run, which no other task has, and which have too few runs."""
    others = () if curve.predicted_by is None else curve.predicted_by.draws
    there = [arm for arm in FURTHER if arm.strategy in curve.draws]
    if unrun := [arm.words for arm in there if not curve.points.get(arm.strategy)]:
        yield f"Not run in the pilot, predicted from the other tasks: {' and '.join(unrun)}."
    if curve.is_updated and (own := [arm.words for arm in there if arm.strategy not in others]):
        yield f"Predicted from the pilot alone, because no other task has them: {' and '.join(own)}."
    if any(curve.points.get(arm.strategy) and arm.strategy not in curve.draws for arm in FURTHER):
        yield _of_unpredicted_arms(question, curve)


def _of_unpredicted_arms(question: Question, curve: PilotCurve) -> str:
    """Give what all arms scored at the pilot's largest size, and say why some of them have no forecast."""
    largest = max(curve.measured_sizes)
    scores = {arm: values for arm in ARMS if (values := curve.points.get(arm.strategy, {}).get(largest))}
    means = {arm.words: sum(values) / len(values) for arm, values in scores.items()}
    best_first = ", ".join(f"{words} {means[words]:.3f}" for words in sorted(means, key=lambda words: -means[words]))
    without = [arm.words for arm in FURTHER if curve.points.get(arm.strategy) and arm.strategy not in curve.draws]
    is_far = question.n_records > REACH * largest
    why = f"{question.n_records:,} are over {REACH:g} times as many" if is_far else "it takes two pairs at two sizes"
    return (
        f"At {largest:,} records the pilot measured {best_first}. Not predicted and not compared: "
        f"{' and '.join(without)} ({why})."
    )


def _of_precision(curve: Curve, curves: CurvesFile) -> Iterator[str]:
    """Say what the scores were trained in where that is not float32, or not all of it, or another was measured too."""
    predicted_by = curve.rests_on[-1]
    if curve.precision != predicted_by.precision:
        yield (
            f"The pilot trained in {in_words(curve.precision)}, the other tasks in {in_words(predicted_by.precision)}: "
            "their scores may differ by that too."
        )
    others = {other.precision for other in curves.curves if other.arch == curve.arch} - {curve.precision}
    if isinstance(curve, MeasuredCurve | PooledCurve) and (others or curve.precision not in (FLOAT32, None)):
        also = f"; runs in {' and '.join(sorted(map(in_words, others)))} are apart" if others else ""
        yield f"Scores are of training in {in_words(curve.precision)}{also}."


def _of_tasks(question: Question, curve: Curve, curves: CurvesFile) -> str:
    if isinstance(curve, PilotCurve):
        others = len(curve.measured_tasks) - 1
        others_too = (
            f", and from {count(others, 'other task')}" if others else " alone: no tasks were pooled to add it to"
        )
        return f"The bands are of your own records, from {count(curve.runs // 2, 'pair')} of a pilot{others_too}."
    if isinstance(curve, PooledCurve):
        corpora = sorted({task.split("/")[0] for task in curve.tasks})
        among = f", all of {corpora[0]}" if len(corpora) == 1 else f" of {len(corpora)} sources"
        few = "" if len(corpora) >= _SITES else f" (to tell how far hospitals differ takes {_SITES})"
        judged = f"judged from {len(curve.tasks)} tasks{among}{few}"
        return f"The bands are a new dataset's, {judged}; yours may differ more."
    if question.task is not None and any(is_pool(other) and other.arch == curve.arch for other in curves.curves):
        return f"One task only, {curve.task}: other datasets are in the bands without --task."
    return f"One task only, {curve.task}: how far other datasets differ is unknown and not in the bands."


def _of_labels(question: Question, curve: Curve) -> Iterator[str]:
    """Say where the asker's labels are not in the answer, and which of them nobody has measured."""
    if not question.labels and question.task_like is None:
        return
    if isinstance(curve, MeasuredCurve):
        yield f"Your labels are not in the answer, which is from {curve.task} alone."
        return
    curve = curve.rests_on[-1]
    if not isinstance(curve, PooledCurve):
        return
    if curve.levels is None:
        yield f"Your labels are not in the answer: what labels say of {curve.arch}'s {curve.metric} was not measured."
    else:
        new = [label for label in curve.labels if curve.levels.find(label) is None]
        if named := [label.finding for label in new if label.finding is not None]:
            n_known = len(curve.levels.labels)
            taken = f"taken for any of the {n_known} labels that were" if n_known > 1 else "taken for the one that was"
            yield f"Not measured before, and {taken}: {', '.join(named)}."
        few = [label for label in curve.labels if question.n_records * label.rarer < _FEW_POSITIVES]
        if few:
            named = [label.finding for label in few if label.finding is not None]
            of = ", ".join(named) if len(named) == len(few) else f"{len(few)} of your labels"
            yield f"Fewer than {_FEW_POSITIVES} of {question.n_records:,} records have, or lack, {of}: a vague score."


def _of_pretraining(question: Question, curve: Curve, cost: Mapping[str, Cost], money: Money | None) -> Iterator[str]:
    if not question.pays_pretraining:
        return
    if question.upstream == NOTHING_PRETRAINED:
        yield f"Fine-tuning is judged by a network {start_in_words(curve.upstream)}; yours has yet to be made."
    if PRETRAINING not in cost:
        yield "What a pre-training costs was not measured."
    elif money is None or money.p_pays_off is None:
        yield "Give --label-cost and --gpu-cost, and the verdict weighs what pre-training saves against its price."


def _of_missing_values(intervals: tuple[Interval, ...]) -> Iterator[str]:
    if any(None in (interval.median, interval.lower, interval.upper) for interval in intervals):
        yield "Out of reach (null in JSON): more records than the evidence can speak of."


def _of_costs(question: Question, cost: Mapping[str, Cost], money: Money | None) -> Iterator[str]:
    device = cost["scratch"].device
    if device is None:
        yield "The runs say nothing of what they cost (null in JSON)."
        return
    if all(c.gpu_seconds is None for c in cost.values()) and question.device_speed is None:
        yield f"Times on {device}; no GPU was measured (gpu_seconds is null)."
    if money is not None and question.gpu_cost is not None and question.device_speed is None:
        yield f"Machine money is for times on {device}: ecgadvise doctor measures your --device-speed."
