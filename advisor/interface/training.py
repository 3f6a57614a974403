"""``ecgadvise.train``: a network for use from a corpus or a directory, as ``ecgadvise train`` makes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from advisor.commands.train import Asked, decide_by, few_threads, plan, starting_from
from advisor.interface.caller_state import caller_state_kept
from advisor.interface.model import Model, load_model
from advisor.interface.records import log
from advisor.own_records.network import sampling_for
from advisor.own_records.records import divide_own
from engine.checkpoints.checkpoint import CheckpointFacts
from engine.corpora.corpus import Corpus, default_corpora
from engine.corpora.held_out import Division
from engine.corpora.opening import check_sampling, open_directory
from engine.deploy.export import export_checkpoint
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.metrics import LEAST_POSITIVES
from engine.files import check_writable, claimed
from engine.recipes import DEFAULT_RECIPE
from engine.training.fit import fit
from engine.training.loop import Validation

Strategy = Literal["auto", "scratch", "fine-tune", "linear-probe", "random-convolutions", "frozen"]


@dataclass(frozen=True, repr=False)
class Trained:
    """A trained network: its checkpoint's ``folder``, what is known of it, and how it did on the test records.

    ``why`` says why it was trained from scratch or from a pre-trained network, ``warnings`` what it cannot show, and
    ``advice`` what the adviser said of the records, with its own warnings, as ``ecgadvise train --json`` has it.
    """

    folder: Path
    facts: CheckpointFacts
    evaluation: Evaluation
    why: str
    warnings: tuple[str, ...]
    advice: dict[str, Any]

    def export(self, path: str | PathLike[str], *, force: bool = False) -> Model:
        """Write the network as an ONNX file, its card and label next to it, and open it.

        Raises TargetExistsError where a file is there and not ``force``, and ExportError.
        """
        with caller_state_kept():
            export_checkpoint(self.folder, Path(path), force=force)
        return load_model(path)

    def __repr__(self) -> str:
        facts, score = self.facts, self.evaluation
        return (
            f"<Trained {facts.arch} for {facts.task}, {facts.strategy}: macro AUROC {score.auroc_macro:.3f} "
            f"(90 %: {score.auroc_macro_ci_lower:.3f} to {score.auroc_macro_ci_upper:.3f}) on "
            f"{score.n_records:,} test records; {self.folder}>"
        )


def train(
    data: Corpus | str | PathLike[str],
    task: str = "",
    arch: str | None = None,
    *,
    out: str | PathLike[str],
    strategy: Strategy = "auto",
    start_from: str | PathLike[str] | None = None,
    n_records: int | None = None,
    seed: int = 0,
    recipe: str = DEFAULT_RECIPE,
    device: str = "auto",
    source: str | None = None,
    seconds: float | None = None,
    fs: float | None = None,
    workers: int = 1,
    least_positives: int = LEAST_POSITIVES,
    labels: Sequence[str] | None = None,
    test_fraction: float | None = None,
    test_seed: int | None = None,
    at_specificity: float | None = None,
    prevalence: float | Mapping[str, float] | None = None,
    report: Callable[[Validation], None] = lambda _validation: None,
) -> Trained:
    """Train a network on labelled records, calibrate it, test it once, and keep it in the folder ``out``.

    ``data`` is an opened corpus, the path of one, or a directory of records; ``task`` is the first where none is named.
    ``arch`` is cnn, rnn or a network's name (None: that of ``start_from``, else the advised one; of
    another ``strategy`` than auto cnn), ``start_from`` a checkpoint's
    folder or a released network, ``n_records`` how many to train and validate with (None: all but the test's);
    ``seconds`` and ``fs`` are what of each record of a directory is used (None: 10 s, 100 Hz); macro averages of the
    test take classes with ``least_positives`` positive and negative test records; ``labels`` are those of the task to
    train for (None: all); ``test_fraction`` of the records, drawn with ``test_seed``, are kept for the test (None: the
    publisher's fold, else a fifth); thresholds are of the highest F1 on validation records, or for the specificity
    ``at_specificity``; predictive values are stated at ``prevalence``, one share or one by label (None: the test
    records'); ``report`` gets every validation. Torch's random numbers, threads and precision stay the caller's. Raises
    ValueError, FileExistsError where ``out`` is not empty, and what ``ecgadvise train`` ends with.
    """
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy is {strategy!r}: give one of {', '.join(get_args(Strategy))}")
    if n_records is not None and n_records < 2:
        raise ValueError(f"n_records is {n_records}: give at least 2, to train and to validate with")
    if least_positives < 1:
        raise ValueError(f"least_positives is {least_positives}: an AUROC needs at least 1 positive record")
    folder = Path(out)
    _check_empty(folder)
    asked, arch, given = starting_from(Asked(strategy), arch, None if start_from is None else str(start_from))
    if not isinstance(data, Corpus):
        seconds, fs = sampling_for(given, Path(data), seconds, fs)
    corpus, named = _open(data, task, source, workers, seconds, fs)
    named_labels = None if labels is None else ",".join(labels)
    with caller_state_kept(), claimed(folder):
        _check_empty(folder)  # once more: who had the folder until now may have written it
        own = divide_own(
            corpus.root, corpus, named, named_labels, Division(test_fraction, test_seed), is_asked=bool(task)
        )
        job, advice = plan(own, arch, asked, given, n_records, seed, recipe, device)
        job = decide_by(replace(job, least_positives=least_positives), at_specificity, prevalence)
        check_writable(folder)
        with few_threads(job):
            fitted = fit(job, folder, report)
    assert fitted.evaluation is not None, "nothing stops this training"
    return Trained(folder, fitted.facts, fitted.evaluation, advice.choice.why, fitted.warnings, advice.as_dict())


def _check_empty(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not an empty folder: choose another out")


def _open(
    data: Corpus | str | PathLike[str], task: str, source: str | None, workers: int, seconds: float | None,
    fs: float | None,
) -> tuple[Corpus, str]:  # fmt: skip
    if isinstance(data, Corpus):
        check_sampling(data, seconds, fs)
        data.task(task)  # raises CorpusError for one that is not there
        return data, task or data.first_task
    return open_directory(Path(data), task, default_corpora(), source, workers, log.warning, seconds=seconds, fs=fs)
