"""What the evidence lacks of what the claims are about, found from the runs that are there."""

from collections import defaultdict
from collections.abc import Sequence

from models.registry import is_narrow
from studies.findings.claims import FEWEST_TASKS, FLATTEN, LARGE, scope_of
from studies.runs.pairs import Pair
from studies.runs.run import Run, known
from studies.runs.task_names import parse_task
from studies.runs.tidy_runs import pretraining_runs
from studies.runs.upstream_labels import Transfer

LARGEST, REPLICATES = 8000, 5
SOURCES = 8  # from so many on the spread between them is known to about 30 % (METHODS.md, Labels of a new dataset)
_ARMS = ("frozen", "random-frozen")


def missing_lines(records: Sequence[Run], pairs: Sequence[Pair], sharing: frozenset[Transfer]) -> list[str]:
    """Return what is missing, a line each."""
    if not pairs:
        return ["- Pairs of runs, one from scratch and one fine-tuned on the same records: every claim is about those."]
    found = [*_networks(pairs), *_sizes(pairs), *_tasks(pairs), *_upstreams(records, sharing), *_others(records)]
    return [f"- {sentence}" for sentence in found] or ["Nothing of what was planned."]


def _networks(pairs: Sequence[Pair]) -> list[str]:
    archs = sorted({pair.scratch.arch for pair in pairs})
    said = []
    wide = {pair.scratch.task for pair in pairs if not is_narrow(pair.scratch.arch)}
    tasks = {pair.scratch.task for pair in pairs}
    if not wide:
        said.append(f"Pairs of full-size networks: those of {', '.join(archs)} are narrow ones.")
    elif wide < tasks:
        said.append(f"Pairs of full-size networks on {len(tasks - wide)} of {len(tasks)} tasks.")
    for family in ("cnn", "rnn"):
        n = len({pair.scratch.task for pair in pairs if pair.scratch.family == family})
        if n < FEWEST_TASKS:
            said.append(f"Tasks of {family} networks: {n} so far, and claims about them need {FEWEST_TASKS}.")
    if not any(FLATTEN in arch for arch in archs):
        said.append("Recurrent networks with the published flatten head, in pairs.")
    return said


def _sizes(pairs: Sequence[Pair]) -> list[str]:
    largest: dict[tuple[str, str], int] = defaultdict(int)
    cells: dict[tuple[str, str, str, int], int] = defaultdict(int)
    for pair in pairs:
        run = pair.scratch
        where = scope_of(run), parse_task(run.task).source
        largest[where] = max(largest[where], run.n_records)
        cells[run.task, run.arch, pair.fine_tuned.upstream or "", run.n_records] += 1
    said = []
    if (most := max(largest.values())) < LARGEST:
        said.append(f"Pairs with more than {most:,} records.")
    for family in sorted({family for family, _ in largest}):
        short = {source: n for (of, source), n in sorted(largest.items()) if of == family and n < LARGE}
        if short:
            named = ", ".join(f"{source} ({n:,})" for source, n in short.items())
            said.append(f"Pairs of {family} networks with {LARGE:,} records or more, the largest in brackets: {named}.")
    if few := sum(count < REPLICATES for count in cells.values()):
        said.append(
            f"{REPLICATES} pairs in {few} of {len(cells)} cells of task, network, upstream and size, which have fewer."
        )
    return said


def _tasks(pairs: Sequence[Pair]) -> list[str]:
    sources = sorted({parse_task(pair.scratch.task).source for pair in pairs})
    if len(sources) == 1:
        return [f"Downstream records of other hospitals: all pairs are of {sources[0]}."]
    if len(sources) < SOURCES:
        return [f"More sources than {len(sources)}: how far they differ takes {SOURCES} or more to tell."]
    return []


def _upstreams(records: Sequence[Run], sharing: frozenset[Transfer]) -> list[str]:
    said = [] if sharing else ["An upstream that has the task's own labels (the best case)."]
    seeds: dict[tuple[object, ...], set[int]] = defaultdict(set)
    for run in pretraining_runs(records):
        seeds[run.task, run.arch, run.spec.pool_folds].add(run.replicate)
    once = sum(len(found) == 1 for found in seeds.values())
    if seeds and once:
        several = f"of {once} of {len(seeds)} networks" if once < len(seeds) else "of any upstream"
        said.append(f"A second pre-training {several}: what another seed would give is in no interval of theirs.")
    return said


def _others(records: Sequence[Run]) -> list[str]:
    downstream = [run for run in records if run.role == "downstream"]
    arms, recipes = {run.strategy for run in downstream}, {run.recipe for run in downstream}
    said = [f"The control arm `{arm}`." for arm in _ARMS if arm not in arms]
    if "paper" not in recipes:
        said.append("The recipe `paper`, and with it what reporting the best epoch on the test set is worth.")
    if all(known(run.device).startswith("CPU") for run in records):
        said.append("A GPU: all times are of processors.")
    said.append("Splits that let a patient onto two sides, and the five sets of the paper (`designs/paper.toml`).")
    return said
