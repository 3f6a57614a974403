"""``ecgadvise train``: a network for use, trained as the adviser says or as asked, kept with what is known of it."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.terminal import completion
from advisor.terminal.lines import say
from advisor.terminal.options import Rate, Seconds, TestFraction, TestSeed
from engine.recipes import DEFAULT_RECIPE, NAMES

if TYPE_CHECKING:
    from advisor.own_records.advice import Advice
    from advisor.own_records.network import Pretrained
    from advisor.own_records.records import OwnData
    from engine.training.fit import Fit, Fitted

EXAMPLE = "Example: ecgadvise train --task synthetic --arch cnn --n-records 80 --out trained"

_SMALL = 1_000_000  # parameters
_KEEP_EVERY = 30.0  # seconds of training: what is lost at most with a process that is killed, or an epoch


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
    labels: Annotated[
        str | None,
        typer.Option(help="Some of the labels, AF,LBBB, or a task of --data. [default: all of its first task]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A directory of records, or a prepared corpus.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="What --data is, where its files do not tell.")] = None,
    seconds: Seconds = None,
    fs: Rate = None,
    arch: Annotated[
        str | None,
        typer.Option(
            help="cnn, rnn, or the name of a network. [default: --from's, else the advised; with --strategy cnn]"
        ),
    ] = None,
    strategy: Annotated[Asked, typer.Option(help="auto asks the adviser and says why.")] = Asked.AUTO,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="Checkpoint folder, or a released or added network.",
            autocompletion=completion.networks,
        ),
    ] = None,
    n_records: Annotated[
        int | None, typer.Option(min=2, help="Records to train and validate with. [default: all but the test's]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the records to train with, the first weights and the order.")] = 0,
    test_fraction: TestFraction = None,
    test_seed: TestSeed = None,
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
    at_specificity: Annotated[
        float | None,
        typer.Option(
            help="Choose thresholds on validation records for this specificity, as 0.95. [default: highest F1]"
        ),
    ] = None,
    prevalence: Annotated[
        str | None,
        typer.Option(help="What predictive values are stated for: 0.02, or AF:0.02,LBBB:0.01. [default: the test's]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was ended.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print what was trained as JSON.")] = False,
) -> None:
    """Train a network on labelled records, calibrate it, test it once and keep it with all that is known of it.

    The test records are the publisher's last fold (of PTB-XL fold 10), or a fifth of the patients with equal shares of
    the labels; split.csv, next to the weights, names them. Of the records that are drawn from the others a fifth, whole
    patients, chooses the epoch, the temperature and the thresholds; where the strategy is a regression (linear-probe,
    random-convolutions), cross-validation does, and all of them train.
    """
    from advisor.terminal.failures import Failure, Interrupted
    from advisor.terminal.training_report import to_json, to_table
    from engine.files import claimed, recover
    from models.errors import ExitCode

    if not task and data is None:
        raise Failure("give --task CORPUS/TASK (or --task synthetic), or --data DIR", ExitCode.USAGE)
    if data is None and (seconds is not None or fs is not None):
        raise Failure(
            "--seconds and --fs are about --data DIR: a prepared corpus (--task) has its length and rate",
            ExitCode.USAGE,
        )
    _refuse_contradictions(data, source, force, resume)
    decided = _read_decisions(at_specificity, prevalence)
    _check_target(out, force, resume)
    with _name_unwritten_files(out):
        strategy, arch, given = starting_from(strategy, arch, from_)
        own = _open(task, data, labels, source, corpora, seconds, fs, test_fraction, test_seed, given)
        begun = _begun(out) if resume else None
        job, advice = plan(own, arch, strategy, given, n_records, seed, recipe, device, begun)
        job = job if least_positives is None else replace(job, least_positives=least_positives)
        job = decide_by(job, *decided)
        with claimed(out):
            recover(out)
            _check_target(out, force, resume)  # once more: who had the folder until now may have written it
            fitted = _fit(job, advice, out, resume)
    if fitted.evaluation is None:
        words = [word for word in sys.argv[1:] if word not in ("--force", "--resume")]
        raise Interrupted(
            f"{out} has the best weights so far (epoch {fitted.training.best.epoch}), not yet tested; "
            f"go on with: {shlex.join(['ecgadvise', *words, '--resume'])}"
        )
    said = to_json(fitted, advice, out) if json else to_table(fitted, fitted.evaluation, advice, own.described, out)
    typer.echo(said)


def _read_decisions(
    at_specificity: float | None, prevalence: str | None
) -> "tuple[float | None, float | Mapping[str, float] | None]":
    """Return the specificity and the prevalence that are asked for. Raises Failure and OperatingPointError."""
    from advisor.terminal.question_options import read_prevalence
    from engine.evaluation.operating_point import check_specificity

    return (
        None if at_specificity is None else check_specificity(at_specificity),
        None if prevalence is None else read_prevalence(prevalence),
    )


def decide_by(job: "Fit", at_specificity: float | None, prevalence: "float | Mapping[str, float] | None") -> "Fit":
    """Return the job with the thresholds and the predictive values that are asked for. Raises OperatingPointError."""
    from engine.evaluation.operating_point import check_specificity, stated_prevalence

    return replace(
        job,
        at_specificity=None if at_specificity is None else check_specificity(at_specificity),
        prevalence={} if prevalence is None else stated_prevalence(prevalence, job.data.classes),
    )


def _refuse_contradictions(data: Path | None, source: str | None, force: bool, resume: bool) -> None:
    """Raise Failure for options that make no sense together."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    contradictions = {
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
    from engine.checkpoints.checkpoint import DOCUMENT, SPLIT, WEIGHTS
    from engine.checkpoints.snapshot import NUMBERS, TENSORS
    from models.errors import ExitCode

    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = {DOCUMENT, SPLIT, WEIGHTS, NUMBERS, TENSORS}
    strange = sorted({path.name for path in out.iterdir()} - ours) if out.is_dir() else [out.name]
    if strange:
        raise Failure(f"{out} is not a checkpoint ({strange[0]} is there): choose another --out", ExitCode.USAGE)
    if not (force or resume):
        raise Failure(f"{out} exists; --force replaces it", ExitCode.USAGE)


def _begun(out: Path) -> Mapping[str, Any] | None:
    """Return what the training in a folder was begun as, after tidying up where its process was killed.

    Raises ResumeError where there is no folder, before one is made for it.
    """
    from engine.checkpoints.snapshot import begun, nothing_to_resume
    from engine.files import claimed, is_begun, recover

    if not is_begun(out):
        raise nothing_to_resume(out)
    with claimed(out):
        recover(out)
        return begun(out)


def _open(
    task: str, data: Path | None, labels: str | None, source: str | None, corpora: Path | None, seconds: float | None,
    fs: float | None, test_fraction: float | None, test_seed: int | None, given: "Pretrained | None",
) -> "OwnData":  # fmt: skip
    from advisor.own_records.network import sampling_for
    from advisor.own_records.records import divide_own
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.corpora.held_out import Division
    from engine.corpora.opening import open_directory, open_named
    from studies.running.workplaces import default_workers

    folder, division = corpora or default_corpora(), Division(test_fraction, test_seed)
    if data is None:
        corpus, named = open_named(task, folder, say)
        return divide_own(corpus.root, corpus, named, labels, division, is_asked="/" in task)
    seconds, fs = sampling_for(given, data, seconds, fs)
    with progress_bar("records") as progress:
        corpus, named = open_directory(data, task, folder, source, default_workers(), say, progress, seconds, fs)
    return divide_own(data, corpus, named, labels, division, is_asked=bool(task))


def starting_from(
    strategy: Asked, arch: str | None, from_: str | None
) -> "tuple[Asked, str | None, Pretrained | None]":  # fmt: skip
    """Return strategy, network and the pre-trained one that is given, before a record is read: it says how they are.

    Raises Failure where they contradict each other, and what ``network_given`` does.
    """
    from advisor.own_records.network import network_given
    from studies.files.curves import read_curves
    from studies.files.shipped import DEFAULT_CURVES

    curves = read_curves(DEFAULT_CURVES)
    strategy, arch = _agree(strategy, None if arch is None else curves.spelled(arch), from_)
    return strategy, arch, network_given(from_, arch, curves)


def plan(
    own: "OwnData", arch: str | None, strategy: Asked, given: "Pretrained | None", n_records: int | None, seed: int,
    recipe: str, device: str, begun: Mapping[str, Any] | None = None,
) -> "tuple[Fit, Advice]":  # fmt: skip
    """Decide everything that can be refused before a minute is spent on it; ``starting_from`` returns the first.

    Of the training that is to go on (``snapshot.begun``) come strategy and network where they are the adviser's to say:
    what it says changes with a pilot.
    """
    from advisor.own_records.advice import advise_training
    from engine.compute.devices import choose_device
    from engine.corpora.partition import divide
    from engine.recipes import PROBES, find_recipe
    from engine.training.fit import Fit
    from engine.training.probe_arms import KERNELS
    from models.registry import find_network
    from studies.files.arms import RANDOM_CONVOLUTIONS
    from studies.files.curves import read_curves
    from studies.files.shipped import DEFAULT_CURVES

    choose_device(device)
    curves = read_curves(DEFAULT_CURVES)
    named = None if arch is None else curves.spelled(arch)
    strategy, arch = _agree(strategy, named, None if given is None else given.given)
    n = n_records or len(own.pool)
    kept = begun if strategy is Asked.AUTO and begun is not None else {}
    advice = advise_training(strategy, own, n, arch or kept.get("arch"), given, curves, kept.get("strategy"))
    choice = advice.choice
    network = find_network(KERNELS if choice.strategy == RANDOM_CONVOLUTIONS else advice.arch)
    chosen = find_recipe(recipe, network.family, choice.strategy, width=network.width)
    if choice.recipe is not None and choice.strategy not in PROBES and choice.recipe in NAMES:
        measured = find_recipe(choice.recipe, network.family, choice.strategy, width=network.width)
        if replace(measured, name=chosen.name) != chosen:
            said = f"The evidence trained by recipe {measured.name}, this trains by {chosen.name}."
            choice = replace(choice, why=f"{choice.why} {said}")
    upstream = advice.network.checkpoint if choice.starts and advice.network is not None else None
    partition = divide(own.corpus, own.data, n, seed, chosen.validation_fraction, own.asked)
    job = Fit(
        own.corpus, own.data, partition, network.name, choice.strategy, upstream, chosen, device, choice.why,
        differences=advice.differences, reads=advice.reads if choice.strategy == "scratch" else None,
    )  # fmt: skip
    return job, replace(advice, choice=choice)


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
    if strategy is Asked.SCRATCH and from_ is not None:
        raise Failure(
            "--strategy scratch starts from no network, and --from names one: leave one of them out", ExitCode.USAGE
        )
    if strategy is not Asked.RANDOM_CONVOLUTIONS:
        if named:
            raise Failure(f"--arch {arch} is not trained: use --strategy random-convolutions", ExitCode.USAGE)
        return strategy, arch
    if from_ is not None:
        raise Failure("random convolutions start from no network: leave out --from", ExitCode.USAGE)
    if arch is not None and not named:
        raise Failure(f"--strategy {strategy} has its own network: leave out --arch {arch}", ExitCode.USAGE)
    return strategy, arch or KERNELS


def _fit(job: "Fit", advice: "Advice", out: Path, resume: bool) -> "Fitted":
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.training import watched
    from engine.checkpoints.snapshot import load_snapshot
    from engine.files import check_writable
    from engine.recipes import PROBES
    from engine.training.fit import LISTED, fit, forewarn
    from models.errors import ExitCode

    if resume and job.strategy in PROBES:
        raise Failure(
            f"{out} holds no interrupted training: strategy {job.strategy} takes one step, there is nothing to resume",
            ExitCode.USAGE,
        )
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
        *advice.in_words(besides=[said.removesuffix(LISTED) for said in warnings]),
        f"{job.arch} on {job.data.name}: {len(rows.training):,} records to train{how}",
        *(f"! {warning}" for warning in warnings),
    )
    for sentence in said:
        say(sentence)
    if job.strategy in PROBES:  # seconds: Ctrl-C ends it at once, with nothing to go on from
        with few_threads(job):
            return fit(job, out)
    with few_threads(job), watched(epochs, *behind) as watch:
        return fit(job, out, watch.report, watch.should_stop, snapshot, _KEEP_EVERY)


@contextmanager
def few_threads(job: "Fit") -> Iterator[None]:
    """Train a small network in one thread: it gains nothing from more, and loses much where others want them too."""
    import torch

    from models.registry import count_parameters, create_network

    before = torch.get_num_threads()
    n_leads, n_samples = len(job.contract.leads), job.contract.crop or job.contract.n_samples
    network = create_network(job.arch, n_leads=n_leads, n_samples=n_samples, n_classes=len(job.data.classes))
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
