"""``ecgadvise train``: a network for use, trained as the adviser says or as asked, kept with what is known of it."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.terminal.lines import say
from advisor.terminal.options import Rate, Seconds
from engine.recipes import DEFAULT_RECIPE, NAMES

if TYPE_CHECKING:
    from advisor.answer.strategy import Choice
    from engine.corpora.corpus import Corpus
    from engine.training.fit import Fit, Fitted

EXAMPLE = "Example: ecgadvise train --task synthetic --arch cnn --n-records 80 --out trained"

_SMALL = 1_000_000  # parameters


class Asked(StrEnum):
    """What ``--strategy`` takes."""

    AUTO = "auto"
    SCRATCH = "scratch"
    FINE_TUNE = "fine-tune"
    LINEAR_PROBE = "linear-probe"
    RANDOM_CONVOLUTIONS = "random-convolutions"
    FROZEN = "frozen"


def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    task: Annotated[
        str, typer.Option(help="CORPUS/TASK of the prepared corpora, or synthetic; with --data a task of it.")
    ] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A directory of records, or a prepared corpus.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="What --data is, where its files do not tell.")] = None,
    seconds: Seconds = None,
    fs: Rate = None,
    arch: Annotated[
        str | None, typer.Option(help="cnn, rnn, or the name of a network. [default: that of --from, else cnn]")
    ] = None,
    strategy: Annotated[Asked, typer.Option(help="auto asks the adviser and says why.")] = Asked.AUTO,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="Checkpoint folder, or a released network.")
    ] = None,
    n_records: Annotated[
        int | None, typer.Option(min=2, help="Records to train and validate with. [default: all but the test's]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the records, the first weights and the order.")] = 0,
    recipe: Annotated[str, typer.Option(help=f"How to train: {', '.join(NAMES)}.")] = DEFAULT_RECIPE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    corpora: Annotated[Path | None, typer.Option(help="Folder of prepared corpora.")] = None,
    least_positives: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Positive and negative test records that a class in macro averages needs. [default: 10]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that Ctrl-C ended.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was trained as JSON.")] = False,
) -> None:
    """Train a network on labelled records, calibrate it, test it once and keep it with all that is known of it.

    The test records are the publisher's last fold (of PTB-XL fold 10), or a fifth of the patients. Of the records that
    are drawn from the others a fifth, whole patients, chooses the epoch, the temperature and the thresholds; where the
    strategy is a regression (linear-probe, random-convolutions), cross-validation does, and all of them train.
    """
    from advisor.terminal.failures import Failure, Interrupted
    from advisor.terminal.training_report import to_json, to_table
    from engine.files import claimed
    from models.errors import ExitCode

    if not task and data is None:
        raise Failure("give --task CORPUS/TASK (or --task synthetic), or --data DIR", ExitCode.USAGE)
    if data is None and (seconds is not None or fs is not None):
        raise Failure(
            "--seconds and --fs are about --data DIR: a prepared corpus (--task) has its length and rate",
            ExitCode.USAGE,
        )
    _refuse_contradictions(strategy, from_, data, source, force, resume)
    _check_target(out, force, resume)
    with _name_unwritten_files(out), claimed(out):
        _check_target(out, force, resume)  # once more: who had the folder until now may have written it
        corpus, named = _open(task, data, source, corpora, seconds, fs)
        job, choice = plan(corpus, named, arch, strategy, from_, n_records, seed, recipe, device)
        job = job if least_positives is None else replace(job, least_positives=least_positives)
        fitted = _fit(job, choice, out, resume)
    if fitted.evaluation is None:
        words = [word for word in sys.argv[1:] if word not in ("--force", "--resume")]
        raise Interrupted(
            f"{out} has the best weights so far (epoch {fitted.training.best.epoch}), not yet tested; "
            f"go on with: {shlex.join(['ecgadvise', *words, '--resume'])}"
        )
    described = corpus.describe_task(named)
    typer.echo(to_json(fitted, choice, out) if json else to_table(fitted, fitted.evaluation, choice, described, out))


def _refuse_contradictions(
    strategy: Asked, from_: str | None, data: Path | None, source: str | None, force: bool, resume: bool
) -> None:
    """Raise Failure for options that make no sense together."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    contradictions = {
        "--strategy scratch starts from no network, and --from names one: leave one of them out": (
            strategy is Asked.SCRATCH and from_ is not None
        ),
        "--source says what --data is, and a prepared corpus (--task) is known: give --data DIR with it": (
            source is not None and data is None
        ),
        "--force replaces what is there and --resume goes on with it: leave one of them out": force and resume,
    }
    for said, is_so in contradictions.items():
        if is_so:
            raise Failure(said, ExitCode.USAGE)


def _check_target(out: Path, force: bool, resume: bool) -> None:
    """Refuse to write over anything but an empty folder, or a checkpoint where that was asked for."""
    from advisor.terminal.failures import Failure
    from engine.checkpoints.checkpoint import DOCUMENT, WEIGHTS
    from engine.checkpoints.snapshot import NUMBERS, TENSORS
    from models.errors import ExitCode

    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = {DOCUMENT, WEIGHTS, NUMBERS, TENSORS}
    strange = sorted({path.name for path in out.iterdir()} - ours) if out.is_dir() else [out.name]
    if strange:
        raise Failure(f"{out} is not a checkpoint ({strange[0]} is there): choose another --out", ExitCode.USAGE)
    if not (force or resume):
        raise Failure(f"{out} exists; --force replaces it", ExitCode.USAGE)


def _open(
    task: str, data: Path | None, source: str | None, corpora: Path | None, seconds: float | None, fs: float | None
) -> "tuple[Corpus, str]":
    from advisor.terminal.progress import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.corpora.opening import open_directory, open_named
    from studies.running.workplaces import default_workers

    folder = corpora or default_corpora()
    if data is None:
        return open_named(task, folder, say)
    with progress_bar("records") as progress:
        return open_directory(data, task, folder, source, default_workers(), say, progress, seconds, fs)


def plan(
    corpus: "Corpus", task: str, arch: str | None, strategy: Asked, from_: str | None, n_records: int | None, seed: int,
    recipe: str, device: str,
) -> "tuple[Fit, Choice]":  # fmt: skip
    """Decide everything that can be refused before a minute is spent on it."""
    from advisor.answer.strategy import choose_strategy
    from advisor.own_records.records import scored_labels
    from advisor.terminal.failures import Failure
    from engine.checkpoints.checkpoint import load_checkpoint
    from engine.checkpoints.zoo import find_checkpoint, released, suiting
    from engine.compute.devices import choose_device
    from engine.corpora.partition import available, divide
    from engine.recipes import PROBES, find_recipe
    from engine.records.lead_names import leads_in_words
    from engine.training.fit import Fit
    from engine.training.probe_arms import KERNELS
    from models.errors import ExitCode
    from models.registry import find_network
    from studies.files.arms import RANDOM_CONVOLUTIONS
    from studies.files.curves import read_curves
    from studies.files.shipped import DEFAULT_CURVES

    choose_device(device)
    curves, view = read_curves(DEFAULT_CURVES), corpus.task(task)
    strategy, arch = _agree(strategy, None if arch is None else curves.spelled(arch), from_)
    given = {} if from_ is None else {from_: load_checkpoint(find_checkpoint(from_))}
    asked = arch or next((one.facts.arch for one in given.values()), "cnn")
    network = find_network(curves.family_default.get(asked, asked))
    if arch is not None and (holds := [one.facts.arch for one in given.values() if one.facts.arch != network.name]):
        raise Failure(
            f"--from {from_} holds {holds[0]}, and --arch {arch} asks for {network.name}: name one of them",
            ExitCode.USAGE,
        )
    if network.family == "kernel" and strategy is not Asked.RANDOM_CONVOLUTIONS:
        raise Failure(f"{from_} holds random convolutions, from which nothing starts: leave out --from", ExitCode.USAGE)
    at_hand = given or suiting(network.name, corpus.contract)
    first = next(iter(at_hand.values()), None)
    folders = {name: one.folder for name, one in at_hand.items()}
    trained_on = None if first is None else first.facts.task
    pool, test, _ = available(corpus, view)
    n, labels = n_records or len(pool), scored_labels(corpus, view, pool, test)
    leads = leads_in_words(corpus.leads)
    choice = choose_strategy(strategy, network.name, n, folders, trained_on, curves, released(), leads, labels)
    if choice.strategy == RANDOM_CONVOLUTIONS:  # as the adviser may have chosen
        network = find_network(KERNELS)
    upstream = None if choice.upstream is None else first
    chosen = find_recipe(recipe, network.family, choice.strategy, width=network.width)
    if choice.recipe is not None and choice.strategy not in PROBES and choice.recipe in NAMES:
        measured = find_recipe(choice.recipe, network.family, choice.strategy, width=network.width)
        if replace(measured, name=chosen.name) != chosen:
            said = f"The evidence trained by recipe {measured.name}, this trains by {chosen.name}."
            choice = replace(choice, why=f"{choice.why} {said}")
    partition = divide(corpus, view, n, seed, chosen.validation_fraction)
    differences = _unlike_evidence(corpus, choice)
    job = Fit(
        corpus, view, partition, network.name, choice.strategy, upstream, chosen, device, choice.why,
        differences=differences,
    )  # fmt: skip
    return job, choice


def _unlike_evidence(corpus: "Corpus", choice: "Choice") -> tuple[str, ...]:
    """Say how the records are recorded otherwise than those that were measured for a choice."""
    from advisor.own_records.signal_differences import signal_differences
    from studies.files.shipped import DEFAULT_CURVES
    from studies.files.transferability import read_transferability

    known = read_transferability(DEFAULT_CURVES) if choice.tasks else None
    return () if known is None else signal_differences(corpus, known.tasks, choice.tasks)


def _agree(strategy: Asked, arch: str | None, from_: str | None) -> tuple[Asked, str | None]:
    """Return strategy and network where the one implies the other: random convolutions are both.

    Raises Failure where they contradict each other.
    """
    from advisor.terminal.failures import Failure
    from engine.training.probe_arms import KERNELS
    from models.errors import ExitCode
    from models.registry import find_network

    named = arch is not None and arch not in ("cnn", "rnn") and find_network(arch).family == "kernel"
    if strategy is Asked.AUTO and named:
        strategy = Asked.RANDOM_CONVOLUTIONS
    if strategy is not Asked.RANDOM_CONVOLUTIONS:
        if named:
            raise Failure(f"--arch {arch} is not trained: use --strategy random-convolutions", ExitCode.USAGE)
        return strategy, arch
    if from_ is not None:
        raise Failure("random convolutions start from no network: leave out --from", ExitCode.USAGE)
    if arch is not None and not named:
        raise Failure(f"--strategy {strategy} has its own network: leave out --arch {arch}", ExitCode.USAGE)
    return strategy, arch or KERNELS


def _fit(job: "Fit", choice: "Choice", out: Path, resume: bool) -> "Fitted":
    from advisor.terminal.failures import Failure
    from advisor.terminal.training_progress import watched
    from engine.checkpoints.snapshot import load_snapshot
    from engine.files import check_writable
    from engine.recipes import PROBES
    from engine.training.fit import fit, forewarn
    from models.errors import ExitCode

    if resume and job.strategy in PROBES:
        raise Failure(f"a {job.strategy} takes one step: there is nothing to resume", ExitCode.USAGE)
    snapshot, behind = None, (0, float("nan"))
    if resume:
        snapshot = load_snapshot(out, job.identity())
        looks = snapshot.numbers["validations"]
        behind = snapshot.epoch, next(v["auroc"] for v in looks if v["epoch"] == snapshot.numbers["best_epoch"])
    warnings, rows = forewarn(job), job.partition
    epochs = job.recipe.epochs(len(rows.training))
    check_writable(out)
    how = f", {len(rows.validation):,} to validate, {len(rows.test):,} to test; {epochs} epochs"
    if job.strategy in PROBES:
        how = f" and to cross-validate, {len(rows.test):,} to test; one regression"
    said = (
        choice.why,
        f"{job.arch} on {job.data.name}: {len(rows.training):,} records to train{how}",
        *(f"! {warning}" for warning in warnings),
    )
    for sentence in said:
        say(sentence)
    if job.strategy in PROBES:  # seconds: Ctrl-C ends it at once, with nothing to go on from
        with few_threads(job):
            return fit(job, out)
    with few_threads(job), watched(epochs, *behind) as watch:
        return fit(job, out, watch.report, watch.should_stop, snapshot)


@contextmanager
def few_threads(job: "Fit") -> Iterator[None]:
    """Train a small network in one thread: it gains nothing from more, and loses much where others want them too."""
    import torch

    from models.registry import count_parameters, create_network

    before = torch.get_num_threads()
    shape = {"n_leads": len(job.corpus.leads), "n_samples": job.corpus.contract.n_samples}
    network = create_network(job.arch, **shape, n_classes=len(job.data.classes))
    if count_parameters(network) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _name_unwritten_files(out: Path) -> Iterator[None]:
    """Say which folder could not be written, with the file where that is another. Raises Failure for an OSError."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    try:
        yield
    except OSError as error:
        named = f" ({error.filename})" if error.filename not in (None, str(out)) else ""
        raise Failure(f"cannot write {out}: {error.strerror or error}{named}", ExitCode.FAILURE) from None
