"""``ecgadvise data``: from a publisher's tree, or your own, to a prepared corpus, and to one small file of it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.commands.parts import data_fetch
from advisor.terminal.lines import in_one_line, say
from advisor.terminal.options import Rate, Seconds

if TYPE_CHECKING:
    from engine.corpora.corpus import Problem
    from engine.corpora.excluded import Exclusion
    from engine.corpora.survey import Survey
    from engine.records.short_records import ShortRecords
    from engine.sources import Source

app = typer.Typer(help="List, fetch, check and prepare ECG records.", no_args_is_help=True, rich_markup_mode=None)
app.command("list", epilog=data_fetch.LIST_EXAMPLE)(data_fetch.list_sets)
app.command("fetch", epilog=data_fetch.FETCH_EXAMPLE)(data_fetch.fetch)

SCHEMA_VERSION = 1
_LISTED, _NAMED = 20, 10  # groups of equal signals, and records of each, that a person reads; --json has all
_NONE = "none of these"
_SHORTEST_KEY = 16  # bytes


class Form(StrEnum):
    """What recordings can be converted to."""

    WFDB = "wfdb"


class Prepared(StrEnum):
    """How the samples of a corpus are prepared."""

    CONTRACT = "contract"
    PAPER = "paper"


Tree = Annotated[Path, typer.Argument(metavar="DIR", help="A publisher's tree as it is distributed, or your own.")]
SourceName = Annotated[str | None, typer.Option("--source", help="What the tree is, where its files do not tell.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes. [default: one a processor]")]

Threads = Annotated[int | None, typer.Option(min=1, help="Threads. [default: one a processor]")]
Corpora = Annotated[Path | None, typer.Option("--corpora", help="Folder for prepared corpora.")]


@app.command(epilog="Example: ecgadvise data check ptb-xl --json")
def check(
    tree: Tree,
    source: SourceName = None,
    task: Annotated[str | None, typer.Option(help="The task whose classes are counted. [default: the first]")] = None,
    max_bad: Annotated[int, typer.Option(min=0, help="Unusable records up to which the check passes.")] = 0,
    workers: Workers = None,
    seconds: Seconds = None,
    fs: Rate = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, every problem of every record.")
    ] = False,
) -> None:
    """Read every record and report what is wrong with which, what there is of each class, and duplicates."""
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.survey import survey
    from engine.processes import WorkerLostError
    from engine.records.contract import Sampling
    from models.errors import ExitCode
    from studies.running.workplaces import default_workers

    sampling = Sampling.asked(seconds, fs)
    opened = _open(tree, source)
    try:
        with progress_bar("records") as report:
            found = survey(opened, task, workers or default_workers(), report, sampling)
    except WorkerLostError as error:  # here an option helps
        raise Failure(f"{error}; --workers 1 takes less", ExitCode.FAILURE) from None
    typer.echo(_survey_json(found) if json else _survey_table(found))
    if found.unusable > max_bad:
        raise Failure(
            f"{found.unusable:,} of {found.records:,} records of {tree} cannot be used (--max-bad is {max_bad})",
            ExitCode.DATA,
        )


@app.command(epilog="Example: ecgadvise data prepare ptb-xl --corpora corpora")
def prepare(
    tree: Tree,
    source: SourceName = None,
    corpora: Corpora = None,
    max_bad: Annotated[
        int | None, typer.Option(min=0, help="Unusable records up to which it is made. [default: any number]")
    ] = None,
    workers: Workers = None,
    preparation: Annotated[
        Prepared, typer.Option(help="contract: resampled, in millivolt. paper: as Nguyen and Do published it.")
    ] = Prepared.CONTRACT,
    seconds: Seconds = None,
    fs: Rate = None,
) -> None:
    """Check and read every record once, into a corpus that opens in milliseconds."""
    from advisor.answer.words import count
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import TooManyBadError, default_corpora, short_records
    from engine.corpora.corpus import prepare as write
    from engine.corpora.excluded import exclusion
    from engine.corpora.opening import identify_tree
    from engine.corpora.remarks import equal_signals
    from engine.processes import WorkerLostError
    from engine.records.contract import Sampling
    from engine.records.signal import CONTRACT, paper_preparation
    from models.errors import ExitCode
    from studies.running.workplaces import default_workers

    sampling = Sampling.asked(seconds, fs)
    state = identify_tree(tree, source)  # before a file is read: what changes meanwhile makes it another tree
    opened = _open(tree, source)
    chosen, suffix = (CONTRACT, "") if preparation is Prepared.CONTRACT else (paper_preparation(opened.name), "-paper")
    target = (corpora or default_corpora()) / f"{opened.name}{suffix}{sampling.suffix}"
    try:
        with progress_bar("records") as report:
            corpus, problems = write(
                opened, target, report, workers or default_workers(), chosen, max_bad, state, sampling
            )
    except TooManyBadError as error:  # its records are listed, as after a preparation
        _say_problems(error.problems)
        _say_short(short_records(error.problems, error.n_listed - error.n_bad, error.n_listed, sampling))
        raise Failure(f"{error} (--max-bad is {max_bad}): {target} was not made", ExitCode.DATA) from None
    except WorkerLostError as error:  # here an option helps
        raise Failure(f"{error}; --workers 1 takes less", ExitCode.FAILURE) from None
    _say_problems(problems)
    for sentence in equal_signals(corpus):
        say(f"{sentence}: ecgadvise data check lists them")
    for line in _excluded_lines(exclusion(corpus, corpus.task(""))):
        say(line)
    _say_short(short_records(problems, len(corpus), len(corpus) + (corpus.unusable or 0), sampling))
    n_bad = len({problem.record for problem in problems if not problem.usable})
    n_odd = len({problem.record for problem in problems if problem.usable})
    typer.echo(f"{count(len(corpus), 'record')}, {n_bad} left out, {n_odd} kept with a remark: {corpus.root}")


@app.command(epilog="Example: ecgadvise data convert exports --to wfdb --out records --key study.key")
def convert(
    tree: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of recordings in any format that is read.")],
    to: Annotated[Form, typer.Option("--to", help="The form to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A secret of 16 bytes or more: the same key gives a patient the same name."),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write which record became which, for you alone.")
    ] = None,
    source: SourceName = None,
    workers: Workers = None,
) -> None:
    """Write recordings of any format in one form, with their table, and without anything that names a person."""
    import secrets

    from advisor.answer.words import count
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from advisor.terminal.record_problems import problem_lines
    from engine.corpora.corpus import Problem
    from engine.files import check_files
    from engine.sources.conversion import TABLE
    from engine.sources.conversion import convert as write
    from engine.sources.own_directory import Directory
    from models.errors import ExitCode
    from studies.running.workplaces import default_workers

    secret = secrets.token_bytes(32) if key is None else _read_key(key)
    _refuse_published(tree, source)
    try:
        check_files([names] if names is not None else [])
    except OSError as error:
        raise Failure(f"cannot write {names}: {error.strerror}", ExitCode.FAILURE) from None
    opened = Directory(tree, labels_needed=False)
    for sentence in opened.inferred:
        say(sentence)
    if key is None:
        say("no --key: names are made with a random one that is not kept, so that no other conversion fits this one")
    with progress_bar("records") as report:
        made = write(opened, out, secret, workers or default_workers(), report)
    for line in problem_lines([Problem(record, reason, usable=False) for record, reason in made.refused]):
        say(line)
    if names is not None:
        _write_names(names, made.names)
    typer.echo(f"{count(len(made.names), 'record')} as {to.value}, {len(made.refused):,} left out, {TABLE}: {out}")


def _refuse_published(tree: Path, name: str | None) -> None:
    """Raise Failure for a publisher's tree: its labels are in no table of one's own."""
    from advisor.terminal.failures import Failure
    from engine.sources.detect import OWN, recognise
    from models.errors import ExitCode

    found = recognise(tree, name)
    if found.name != OWN:
        said = (
            f"{tree} is {found.name} as it is published: data prepare takes it, --source {OWN} converts it as your own"
        )
        raise Failure(said, ExitCode.DATA)


def _write_names(file: Path, names: "Mapping[str, str]") -> None:
    import csv
    import io

    from advisor.terminal.failures import Failure
    from engine.files import write_files
    from models.errors import ExitCode

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("record", "converted"), *names.items()])
    try:
        write_files({file: text.getvalue().encode(errors="surrogateescape")})
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}", ExitCode.FAILURE) from None


def _read_key(file: Path) -> bytes:
    """Return the secret in a file. Raises Failure for one that cannot be read or is too short to keep anything."""
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", ExitCode.USAGE) from None
    if len(secret) < _SHORTEST_KEY:
        raise Failure(
            f"{file} has {len(secret)} bytes: a key needs {_SHORTEST_KEY} or more, as openssl rand -hex 32 makes it",
            ExitCode.USAGE,
        )
    return secret


@app.command(epilog="Example: ecgadvise data pack ptb-xl --out ptb-xl.packed")
def pack(
    name: Annotated[str, typer.Argument(metavar="CORPUS", help="A prepared corpus by its name.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; its parts end in .001, .002, ...")],
    corpora: Corpora = None,
    part_size: Annotated[
        float | None, typer.Option(min=0.001, help="Megabytes (1e6 bytes) a part. [default: one file]")
    ] = None,
    workers: Threads = None,
) -> None:
    """Write a prepared corpus as one small file, for a machine to which little can be sent."""
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.corpora.opening import open_named
    from engine.corpora.travel import pack as write
    from studies.running.workplaces import default_workers

    corpus, _ = open_named(name, corpora or default_corpora())
    with progress_bar("records") as report:
        size = None if part_size is None else round(part_size * 1e6)
        files = write(corpus, out, size, workers or default_workers(), report)
    for file in files:
        typer.echo(f"{file.stat().st_size / 1e6:,.1f} MB: {file}")


@app.command(epilog="Example: ecgadvise data unpack ptb-xl.packed --corpora unpacked")
def unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What data pack wrote, without .001 at its end.")],
    corpora: Corpora = None,
    workers: Threads = None,
) -> None:
    """Bring back a corpus that data pack made a file of, the same to the bit."""
    from advisor.answer.words import count
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import default_corpora
    from engine.corpora.travel import unpack as read
    from studies.running.workplaces import default_workers

    with progress_bar("records") as report:
        corpus = read(file, corpora or default_corpora(), workers or default_workers(), report)
    typer.echo(f"{count(len(corpus), 'record')}: {corpus.root}")


def _open(tree: Path, name: str | None) -> "Source":
    from engine.sources.detect import open_source

    source = open_source(tree, name)
    for sentence in getattr(source, "inferred", ()):
        say(sentence)
    return source


def _survey_json(found: "Survey") -> str:
    import json
    from dataclasses import asdict

    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(found, name) for name in ("source", "task", "records", "unusable", "patients", "classes")},
            "unlabelled": found.unlabelled,
            "patients_in_several_folds": found.patients_in_several_folds,
            "problems": [{"record": p.record, "problem": p.problem, "usable": p.usable} for p in found.problems],
            "duplicates": found.duplicates,
            **asdict(found.sampling),
            "short": None if found.short is None else asdict(found.short),
            "excluded": None if found.excluded is None else found.excluded.as_dict(),
        },
        indent=1,
    )


def _survey_table(found: "Survey") -> str:
    from advisor.answer.words import count
    from advisor.terminal.record_problems import problem_lines
    from engine.corpora.remarks import EACH_ITS_OWN
    from engine.sources.own_tables.columns import listed

    whose = f"of {count(found.patients, 'patient')}" if found.patients < found.records else EACH_ITS_OWN
    classes = {in_one_line(name): n for name, n in found.classes.items()} | {_NONE: found.unlabelled}
    width = max(map(len, classes))
    lines = [
        f"{found.source}: {count(found.records, 'record')}{', ' * (whose == EACH_ITS_OWN) or ' '}{whose}, "
        f"{found.unusable:,} unusable",
        *(f"  {name:{width}} {n:>8,}" for name, n in classes.items()),
        *problem_lines(found.problems),
        *([found.short.in_words()] if found.short is not None else []),
        *_excluded_lines(found.excluded),
        *_fold_lines(found),
        *(in_one_line(f"equal signals: {listed(group, _NAMED)}") for group in found.duplicates[:_LISTED]),
    ]
    if (more := len(found.duplicates) - _LISTED) > 0:
        lines.append(f"... and {count(more, 'more group')} of equal signals")
    return "\n".join(lines)


def _excluded_lines(excluded: "Exclusion | None") -> list[str]:
    """Say which labels the records have that cannot be used: that they are others than those of the rest, if so."""
    if excluded is None:
        return []
    plain = f"labels of the {excluded.records:,} unusable: {excluded.counts()}"
    return [in_one_line(excluded.warning() or plain)]


def _fold_lines(found: "Survey") -> list[str]:
    from advisor.answer.words import count

    n = found.patients_in_several_folds
    have = "has" if n == 1 else "have"
    return [f"{count(n, 'patient')} {have} records in several folds: folds are not a split by patient"] if n else []


def _say_problems(problems: "Sequence[Problem]") -> None:
    from advisor.terminal.record_problems import problem_lines

    for line in problem_lines(problems):
        say(line)


def _say_short(short: "ShortRecords | None") -> None:
    if short is not None:
        say(short.in_words())
