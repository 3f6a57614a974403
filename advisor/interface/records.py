"""``ecgadvise.open_corpus`` and ``ecgadvise.prepare``: from a directory of records to an opened corpus."""

import logging
from os import PathLike
from pathlib import Path

from advisor.terminal.lines import in_one_line
from advisor.terminal.record_problems import problem_lines
from engine.corpora.corpus import Corpus, short_records
from engine.corpora.corpus import prepare as write

__all__ = ["Corpus", "log", "open_corpus", "prepare"]

log = logging.getLogger("ecgadvise")  # what the command line says on stderr


def open_corpus(path: str | PathLike[str]) -> Corpus:
    """Open a prepared corpus. Raises CorpusError."""
    return Corpus(Path(path))


def prepare(
    directory: str | PathLike[str],
    out: str | PathLike[str],
    source: str | None = None,
    workers: int = 1,
    *,
    seconds: float | None = None,
    fs: float | None = None,
) -> Corpus:
    """Read every record of a publisher's tree, or of a directory of one's own, into the corpus ``out``, and open it.

    ``source`` says what the directory is where its files do not tell; ``workers`` are processes. The first ``seconds``
    of each record are used, brought to ``fs`` hertz (None: 10 s, 100 Hz). What was inferred, and every kind of problem
    with its first records, is a warning of the logger ``ecgadvise``. Raises SamplingError, SourceError,
    UnknownNameError and CorpusError, also when ``out`` exists.
    """
    from engine.corpora.opening import identify_tree
    from engine.corpora.remarks import equal_signals
    from engine.records.contract import Sampling
    from engine.sources.detect import open_source

    sampling = Sampling.asked(seconds, fs)
    state = identify_tree(Path(directory), source)  # before a file is read: what changes meanwhile makes another tree
    opened = open_source(Path(directory), source)
    for sentence in opened.inferred:
        log.warning(in_one_line(sentence))
    corpus, problems = write(opened, Path(out), workers=workers, prepared_from=state, sampling=sampling)
    if short := short_records(problems, len(corpus), len(corpus) + (corpus.unusable or 0), sampling):
        log.warning(short.in_words())
    for line in problem_lines(problems):
        log.warning("%s", line)
    for sentence in equal_signals(corpus):
        log.warning("%s: ecgadvise data check lists them", sentence)
    return corpus
