"""Release a pre-trained network: a checkpoint folder with its card, in ``models/zoo``.

    python -m studies.running.release sites.checkpoints/5d45ed946713f3a559d64d2f resnet1d18-w16-ptbxl

Takes a checkpoint of ``ecgadvise train`` or of a study. A study's networks do not know which folds they were trained
and tested on: the store next to their folder does, and what it says of the run goes into the checkpoint's record, with
what the runs scored that started from it.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from engine.checkpoints.checkpoint import WEIGHTS, load_network, save_checkpoint
from engine.checkpoints.zoo_folders import ZOO
from engine.deploy.zoo_card import CARD, zoo_card
from engine.files import file_sha256
from models.errors import ExitCode, UserError
from studies.files.arms import FINE_TUNE, LINEAR_PROBE, SCRATCH
from studies.running.study_networks import folder_of
from studies.runs.pairs import Pair, pair_runs
from studies.runs.run import Run
from studies.runs.store import Store

_SHOWN = 100  # records: the size between the smallest and the largest that a card shows
_FOLDS = 10  # of every corpus: PTB-XL's own, and those that others get (engine.corpora.splits.make_folds)
_USAGE = "usage: python -m studies.running.release CHECKPOINT NAME"


class ReleaseError(UserError, ValueError):
    """A checkpoint that cannot be released; one sentence says why."""

    exit_code = ExitCode.DATA


def release(checkpoint: Path, name: str, zoo: Path = ZOO) -> Path:
    """Write the network of a checkpoint, what is known of it and its card to ``zoo/name``; return that folder.

    Raises ReleaseError, CheckpointError and StoreError; OSError when it cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
        raise ReleaseError(f"{name!r} is not a name for a network: small letters, digits, dots and hyphens")
    network, facts = load_network(checkpoint)
    if facts.evaluation.get("auroc_macro") is None:
        raise ReleaseError(f"{checkpoint} was never tested, or not on records of both outcomes: no AUROC to go with it")
    if not facts.source.get("licence"):
        raise ReleaseError(f"{checkpoint} does not say under which licence its records are")
    facts = replace(facts, record=facts.record or _record_of(checkpoint))
    target = zoo / name
    save_checkpoint(network, facts, target)
    (target / CARD).write_text(zoo_card(name, facts, file_sha256(target / WEIGHTS)), encoding="utf-8")
    return target


def _record_of(checkpoint: Path) -> dict[str, Any]:
    """Return what the store next to a study's networks says of the run that made this one."""
    folder = checkpoint.resolve().parent
    path = next((one for one in map(folder.with_suffix, (".db", ".db.xz")) if one.is_file()), folder.with_suffix(".db"))
    if folder != folder_of(path) or not path.is_file():
        raise ReleaseError(f"{checkpoint} does not say how it was trained, and no study store {path} does")
    store = Store(path, create=False)
    runs = store.runs()
    store.close()
    run = next((run for run in runs if run.key == checkpoint.name), None)
    if run is None:
        raise ReleaseError(f"{path} holds no run {checkpoint.name}")
    return describe_run(run, runs)


def describe_run(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what a study's ``runs`` say of the one that made a network, for the record of its checkpoint."""
    return _described(run) | _other_seeds(run, runs) | _starting_point(run, runs)


def _other_seeds(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """Return which replicate the training is, and the test scores of all that differ in their seed alone."""
    same = {
        one.replicate: one.auroc_macro
        for one in runs
        if one.role == run.role and one.has_score and replace(one.spec, replicate=run.replicate) == run.spec
    }
    scores = [score for _, score in sorted(same.items())]
    return {"seeds": {"replicate": run.replicate, "auroc_macro": scores}} if len(same) > 1 else {}


def _starting_point(run: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """Return what runs from this network scored next to those from scratch on the same records, by task and size.

    Of each task and recipe those of the smallest size, of 100 records and of the largest.
    """
    scored = [one for one in runs if one.has_score]
    from_it = [one for one in scored if one.start_from == run.key]
    probes = {_cell(one): one.score for one in from_it if one.strategy == LINEAR_PROBE}
    scratch = [one for one in scored if one.strategy == SCRATCH and one.role != run.role]
    cells: dict[tuple[str, str], dict[int, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for recipe in {one.recipe for one in from_it if one.strategy == FINE_TUNE}:
        for pair in pair_runs(one for one in (*scratch, *from_it) if one.recipe == recipe):
            cells[pair.scratch.task, str(recipe)][pair.scratch.n_records].append(pair)
    rows = [
        _row(sizes[n], probes)
        for _, sizes in sorted(cells.items())
        for n in sorted({min(sizes), _SHOWN, max(sizes)} & sizes.keys())
    ]
    return {"starting_point": rows} if rows else {}


def _cell(run: Run) -> tuple[object, ...]:
    return run.subset, run.recipe


def _row(pairs: Sequence[Pair], probes: dict[tuple[object, ...], float]) -> dict[str, Any]:
    """Return the mean scores of pairs of one task, recipe and size; of the linear probe where each pair has one."""
    first, gains = pairs[0].fine_tuned, [pair.gain for pair in pairs]
    probed = [probes[_cell(pair.fine_tuned)] for pair in pairs if _cell(pair.fine_tuned) in probes]
    return {
        "task": first.task,
        "recipe": first.recipe,
        "head": first.training_recipe.head,
        "n_records": first.n_records,
        "pairs": len(pairs),
        "scratch": fmean(pair.scratch.score for pair in pairs),
        "fine_tune": fmean(pair.fine_tuned.score for pair in pairs),
        "linear_probe": fmean(probed) if len(probed) == len(pairs) else None,
        "gain": fmean(gains),
        "gain_se": stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
    }


def _described(run: Run) -> dict[str, Any]:
    spec = run.spec
    unused = sorted({*range(1, _FOLDS + 1)} - {*spec.pool_folds, *spec.test_folds})
    return {
        "training_records": run.training_records,
        "validation_records": run.n_records - run.training_records,
        "test_records": run.test_records,
        "test_patients": run.test_patients,
        "folds": ", ".join(map(str, spec.pool_folds)),
        "unused_folds": ", ".join(map(str, unused)) or "none",
        "held_out": _held_out(run, spec.test_folds),
        "epochs": run.epochs,
        "best_epoch": run.best_epoch,
        "device": run.device,
        "seconds": run.seconds,
        "run": run.key,
    }


def _held_out(run: Run, folds: Sequence[int]) -> str:
    """Say what was tested on, in the words of ``engine.corpora.splits.hold_out`` where it would hold out the same."""
    if (run.source["name"] or "").startswith("ptb-xl") and list(folds) == [_FOLDS]:
        return f"fold {_FOLDS} of the publisher's {_FOLDS}"
    return f"folds {', '.join(map(str, folds))}"


def main() -> None:
    """Release the checkpoint that is named on the command line."""
    try:
        checkpoint, name = sys.argv[1:]
    except ValueError:
        sys.exit(_USAGE)
    try:
        target = release(Path(checkpoint), name)
    except UserError as error:
        sys.exit(f"error: {error}")
    score = load_network(target)[1].evaluation["auroc_macro"]
    sys.stdout.write(f"{target}: macro AUROC {score:.3f}\n")


if __name__ == "__main__":
    main()
