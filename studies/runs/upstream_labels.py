"""Which upstreams have labels of the task among their own: the best case of transfer, apart from the main arm.

Between two hospitals with different label sets the upstream has other labels than the task (METHODS.md, Upstreams).
Claims are about that; what the task's own labels add, on other patients, is a finding of its own. Of two sources
nothing is said: their names of one finding differ as a rule, and where two agree (PAC, NORM) the patients, the device
and the rule of labelling do not.
"""

from collections.abc import Sequence

from studies.runs.run import Run
from studies.runs.task_names import parse_task
from studies.runs.tidy_runs import pretraining_runs

Transfer = tuple[str, str]  # a task and an upstream


def sharing_labels(runs: Sequence[Run]) -> frozenset[Transfer]:
    """Return the transfers inside a source whose upstream was pre-trained on labels of the task, by their names."""
    pretrained = {run.task: set(run.classes) for run in pretraining_runs(runs)}
    return frozenset(
        (run.task, run.upstream)
        for run in runs
        if run.role == "downstream"
        and run.upstream in pretrained
        and pretrained[run.upstream] & set(run.classes)
        and parse_task(run.task).source == parse_task(run.upstream).source
    )


def main_arm(runs: Sequence[Run], sharing: frozenset[Transfer]) -> tuple[Run, ...]:
    """Leave out runs from an upstream with the task's labels, where the network has one without them for the task."""
    others = {(run.task, run.arch) for run in runs if run.upstream is not None and _transfer(run) not in sharing}
    return tuple(run for run in runs if _transfer(run) not in sharing or (run.task, run.arch) not in others)


def _transfer(run: Run) -> Transfer:
    return run.task, run.upstream or ""
