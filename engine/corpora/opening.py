"""From a name or a directory to a corpus and one of its tasks; what is not prepared yet is prepared once and kept."""

import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from engine.corpora.corpus import (
    SCHEMA_VERSION,
    Corpus,
    CorpusError,
    TreeState,
    describe,
    prepare,
    read_manifest,
    short_records,
)  # fmt: skip
from engine.corpora.synthetic import N_RECORDS, NAME, prepared_synthetic
from engine.records.contract import Sampling, SamplingError
from engine.records.folders import walk
from engine.records.signal import CONTRACT
from engine.sources import Source, UnknownNameError
from engine.sources.detect import open_source, recognise

Say = Callable[[str], None]
_RULES = 3  # by which trees are read: where the same files are read otherwise, what was prepared before is not theirs
FROM_DIRECTORIES = "from-directories"


def open_named(name: str, corpora: Path, say: Say = lambda _sentence: None) -> tuple[Corpus, str]:
    """Return the corpus of ``corpus`` or ``corpus/task`` and the task's name in it, its first one where none is given.

    The corpus ``synthetic`` is made where it is not there. Raises CorpusError, and UnknownNameError for what is not
    there.
    """
    which, _, task = name.partition("/")
    composed = unicodedata.normalize("NFC", which)  # as corpora are named; a file system may have given another form
    which = which if (corpora / which).exists() else composed
    if which == NAME:
        if not (corpora / NAME).exists():
            say(f"making {N_RECORDS:,} records in {corpora / NAME}, once")
        return _with_task(prepared_synthetic(corpora), task)
    prepared = sorted(path.parent.name for path in corpora.glob("*/corpus.json"))
    if which not in prepared:
        listed = ", ".join(dict.fromkeys([*prepared, NAME]))
        raise UnknownNameError(f"no prepared corpus is named {which!r} in {corpora}; there is {listed}")
    return _with_task(Corpus(corpora / which), task)


def open_directory(
    root: Path,
    task: str,
    corpora: Path,
    source_name: str | None = None,
    workers: int = 1,
    say: Say = lambda _sentence: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    seconds: float | None = None,
    fs: float | None = None,
) -> tuple[Corpus, str]:
    """Return the corpus of a directory and the task's name in it: a prepared corpus, or any tree of records.

    A tree that ``data prepare`` has prepared into ``corpora``, and that is as it was then, is not prepared again. Any
    other is prepared into ``corpora / "from-directories"`` the first time, and again when a file in it has changed.
    ``source_name`` says what the tree is where its files do not tell, ``seconds`` and ``fs`` what of each record is
    used (``Sampling``). Raises CorpusError, SourceError for a directory without usable records, UnknownNameError for an
    unknown task or source, SamplingError for a length or rate that cannot be, or that a prepared corpus does not have.
    """
    if (root / "corpus.json").is_file():
        corpus = Corpus(root)
        check_sampling(corpus, seconds, fs)
        return _with_task(corpus, task)
    sampling = Sampling.asked(seconds, fs)
    state = identify_tree(root, source_name)
    source = open_source(root, source_name)
    folder = state.fingerprint if source_name is None else f"{state.fingerprint}-{state.reader}"
    target = corpora / FROM_DIRECTORIES / folder / f"{source_name or source.name}{sampling.suffix}"
    if target.exists():
        corpus = Corpus(target)
        _report(corpus, root, say)
        return _with_task(corpus, task)
    if (prepared := _find_prepared(source, state, corpora, sampling)) is not None:
        say(f"{root} was prepared before: using {prepared.root}")
        _report(prepared, root, say)
        return _with_task(prepared, task)
    for sentence in source.inferred:
        say(sentence)
    say(f"preparing {root} into {target}, once")
    corpus, problems = prepare(source, target, progress, workers, prepared_from=state, sampling=sampling)
    _report(corpus, root, say)
    if short := short_records(problems, len(corpus), len(corpus) + (corpus.unusable or 0), sampling):
        say(short.in_words())
    return _with_task(corpus, task)


def identify_tree(root: Path, source_name: str | None = None) -> TreeState:
    """Return what tells a tree as it is now, and as it is read, from every other. Raises SourceError."""
    reader = recognise(root, source_name).name
    return TreeState(fingerprint(root), reader)


def check_sampling(corpus: Corpus, seconds: float | None, fs: float | None) -> None:
    """Raise SamplingError where a prepared corpus is not as asked for."""
    has = corpus.contract
    asked = Sampling.asked(has.seconds if seconds is None else seconds, has.fs if fs is None else fs)
    if (asked.n_samples, asked.fs) != (has.n_samples, has.fs):
        raise SamplingError(
            f"{corpus.root} was prepared with {has.seconds:g} s at {has.fs:g} Hz, and {asked.in_words()} are asked "
            "for: prepare its records so with ecgadvise data prepare"
        )


def _find_prepared(source: Source, state: TreeState, corpora: Path, sampling: Sampling) -> Corpus | None:
    """Return the corpus in ``corpora`` that this very tree was prepared into, as the source reads it today."""
    wanted = json.loads(json.dumps({**describe(source, CONTRACT, sampling), "prepared_from": asdict(state)}))
    for document in sorted(corpora.glob("*/corpus.json")):
        try:
            manifest = read_manifest(document.parent)
            if not all(manifest.get(name) == value for name, value in wanted.items()):
                continue
            corpus = Corpus(document.parent)
            if corpus.contract.n_samples == sampling.n_samples:
                return corpus
        except CorpusError:
            continue  # nobody asked for this one, and a damaged corpus does not serve
    return None


def _with_task(corpus: Corpus, task: str) -> tuple[Corpus, str]:
    if task and task not in corpus.tasks:
        raise UnknownNameError(f"corpus {corpus.name} has no task {task!r}; it has {', '.join(corpus.tasks)}")
    return corpus, task or corpus.first_task


def _report(corpus: Corpus, root: Path, say: Say) -> None:
    if corpus.unusable:
        listed = len(corpus) + corpus.unusable
        say(f"{corpus.unusable:,} of {listed:,} records cannot be used: see ecgadvise data check {root}")


def prepared_into(fingerprint: str, corpora: Path) -> list[Path]:
    """Return the folders that ``open_directory`` has prepared a directory into that had this ``fingerprint``."""
    folder = corpora / FROM_DIRECTORIES
    return [path for path in (folder / fingerprint, *sorted(folder.glob(f"{fingerprint}-*"))) if path.is_dir()]


def fingerprint(root: Path) -> str:
    """Return a hash of every file's name, size and time of change below a directory, behind links too."""
    paths = [Path(path) for path in walk(root).files]
    files = [(path.relative_to(root).as_posix(), *_size_and_change(path)) for path in paths]
    return hashlib.sha256(json.dumps([SCHEMA_VERSION, _RULES, sorted(files)]).encode()).hexdigest()[:12]


def _size_and_change(path: Path) -> tuple[int, int]:
    for look in (path.stat, path.lstat):  # a link to nowhere is a file like any other
        try:
            status = look()
        except OSError:
            continue
        return status.st_size, status.st_mtime_ns
    return -1, -1  # one that nobody may look at, or that has just gone
