"""``ecgadvise study``: plan, run, watch and collect the paired runs that the evidence is made of."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.commands.parts import study_results
from advisor.terminal.lines import say

if TYPE_CHECKING:
    import torch

    from engine.corpora.corpus import Corpus
    from studies.running.design import Design
    from studies.running.workload import Workload
    from studies.runs.run_spec import RunSpec

app = typer.Typer(help="Plan, run, watch and collect paired runs.", no_args_is_help=True, rich_markup_mode=None)

_MOST = 1e12  # a price beyond this is a slip


class Where(StrEnum):
    """Where runs run."""

    LOCAL = "local"
    DASK = "dask"


DesignFile = Annotated[Path, typer.Argument(metavar="DESIGN.toml", help="The study's design.")]
StoreOption = Annotated[Path | None, typer.Option("--store", help="The study's store. [default: NAME.db here]")]
CorporaOption = Annotated[
    Path | None, typer.Option("--corpora", help="Folder of prepared corpora (see ecgadvise data prepare).")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="CORPUS=DIR", help="Directory that a corpus is prepared from, if need be."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, max=1000, help="Worker processes, in all or for each GPU. [default: one a processor or GPU]"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@app.command(epilog="Example: ecgadvise study plan studies/designs/atlas.toml --no-probe")
def plan(
    design: DesignFile,
    store: StoreOption = None,
    corpora: CorporaOption = None,
    data: DataOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    probe: Annotated[bool, typer.Option(help="Time some steps of each network, to predict the time.")] = True,
    gpu_cost: Annotated[float | None, typer.Option(min=0, help="Price of an hour of this machine.")] = None,
) -> None:
    """List the cells of a design, how many of their runs the store holds, and how long the others will take."""
    from collections import Counter

    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.study import cell_line
    from models.errors import ExitCode
    from studies.running.progress import cell_of
    from studies.running.workload import Workload
    from studies.running.workplaces import choose_devices
    from studies.runs.run_spec import find_keys
    from studies.runs.store import Store

    if gpu_cost is not None and not gpu_cost <= _MOST:  # a NaN is not
        raise Failure(f"--gpu-cost is {gpu_cost:g}: give a price from 0 to {_MOST:g}", ExitCode.USAGE)
    study, specs, data_hashes, opened = expand_design(design, corpora, data)
    path = store or Path(f"{study.name}.db")
    stored = Store(path, create=False).keys() if path.exists() else set()
    keys = find_keys(specs, data_hashes)
    missing = [spec for spec in specs if keys[spec] not in stored]
    total, left = Counter(map(cell_of, specs)), Counter(map(cell_of, missing))
    lines = []
    for cell, n_runs in total.items():
        done = f"{n_runs - left[cell]} of {n_runs} runs done"
        lines.append(cell_line(*cell, done))
    typer.echo("\n".join(lines))
    typer.echo(f"{len(specs) - len(missing)} of {len(specs)} runs done")
    if missing:
        devices = choose_devices(device) if probe else None
        typer.echo(_forecast(missing, data_hashes, Workload(opened), workers, devices, gpu_cost))


@app.command(epilog="Example: ecgadvise study run studies/designs/smoke.toml --store smoke.db --workers 2")
def run(
    design: DesignFile,
    store: StoreOption = None,
    corpora: CorporaOption = None,
    data: DataOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    executor: Annotated[
        Where, typer.Option(help="local: worker processes here. dask: a running cluster.")
    ] = Where.LOCAL,
    scheduler: Annotated[str | None, typer.Option(help="The Dask scheduler, as tcp://host:8786.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first run that fails.")] = False,
    log_dir: Annotated[
        Path | None, typer.Option("--log-dir", help="Folder for each run's validations, as JSON lines.")
    ] = None,
) -> None:
    """Run what the store does not hold yet; stop it at any time and run the same command to go on."""
    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.study import says_time_left, study_progress
    from models.errors import ExitCode
    from studies.running.runner import run_study
    from studies.running.study_networks import bring_released, folder_of
    from studies.running.workload import Workload
    from studies.running.workplaces import choose_workplace
    from studies.runs.store import Store, check_writable

    if store is not None:
        check_writable(store)  # before records are prepared
    if (executor is Where.DASK) != (scheduler is not None):
        raise Failure("--executor dask and --scheduler tcp://host:port go together", ExitCode.USAGE)
    study, specs, data_hashes, opened = expand_design(design, corpora, data)
    path = store or Path(f"{study.name}.db")
    given = {"--store": store, "--corpora": corpora, "--workers": workers, "--scheduler": scheduler}
    given |= {"--device": None if device == "auto" else device, "--log-dir": log_dir}
    given |= {"--executor": executor.value if scheduler else None}
    with _named_failures(_command(design, given, data)):
        for corpus in opened.values():
            corpus.verify()
        results = Store(path)
        results.check()
        bring_released(specs, data_hashes, folder_of(path))
        folder = next(iter(opened.values())).root.parent
        load = Workload(opened)
        with choose_workplace(scheduler, workers, device, load) as workplace, study_progress() as report:
            progress = run_study(
                specs, results, folder, data_hashes, workplace, report,
                fail_fast=fail_fast, log_dir=log_dir, work=load.gflop if says_time_left() else None,
            )  # fmt: skip
        results.close()
    typer.echo(f"{progress.done} of {progress.total} runs done, {progress.failed} failed: {path}")
    if progress.failed:
        raise typer.Exit(ExitCode.FAILURE)


@contextmanager
def _named_failures(go_on: str) -> Iterator[None]:
    """Say with what stops a study, where that helps, the command that goes on. Raises Failure and Interrupted."""
    from advisor.terminal.failures import Failure, Interrupted
    from models.errors import ExitCode
    from studies.running.runner import FailedFastError, WorkersGoneError
    from studies.running.workplaces import SchedulerError
    from studies.runs.store import StoreError

    try:
        yield
    except StoreError as error:  # the store is what a study writes, it is not data that is missing
        raise Failure(str(error), ExitCode.FAILURE) from None
    except (WorkersGoneError, FailedFastError, SchedulerError) as error:  # what is done is kept
        raise Failure(f"{error}; go on with: {go_on}", ExitCode.FAILURE) from None
    except KeyboardInterrupt:
        raise Interrupted(f"go on with: {go_on}") from None


def _command(design: Path, given: Mapping[str, object], data: list[str] | None) -> str:
    """Return the command with the options as they were given."""
    options = [(name, str(value)) for name, value in given.items() if value is not None]
    options += [("--data", pair) for pair in data or ()]
    return shlex.join(["ecgadvise", "study", "run", str(design), *(word for option in options for word in option)])


app.command("status", epilog=study_results.STATUS_EXAMPLE)(study_results.status)
app.command("tuning", epilog=study_results.TUNING_EXAMPLE)(study_results.tuning)
app.command("transferability", epilog=study_results.TRANSFERABILITY_EXAMPLE)(study_results.transferability)
app.command("collect", epilog=study_results.COLLECT_EXAMPLE)(study_results.collect)
app.command("rescore", epilog=study_results.RESCORE_EXAMPLE)(study_results.rescore)
app.command("findings", epilog=study_results.FINDINGS_EXAMPLE)(study_results.findings)


def expand_design(
    path: Path, folder: Path | None, data: list[str] | None
) -> "tuple[Design, list[RunSpec], dict[str, str], dict[str, Corpus]]":
    """Return a design, its runs, the hashes of their data and its corpora, prepared where they are not there."""
    from dataclasses import replace

    from advisor.terminal.failures import Failure
    from advisor.terminal.progress.bar import progress_bar
    from engine.corpora.corpus import UnwritableCorpusError, default_corpora
    from models.errors import ExitCode
    from studies.running.design import read_design
    from studies.running.expansion import expand, hash_tasks
    from studies.running.study_corpora import open_corpora
    from studies.running.workplaces import default_workers

    design = read_design(path)
    design = replace(design, data={**design.data, **_directories(data or [])})
    try:
        with progress_bar("records") as progress:
            opened, missing = open_corpora(
                design, folder or default_corpora(), say, progress,
                default_workers(),
            )  # fmt: skip
    except UnwritableCorpusError as error:  # to a study it is data that is missing, whatever the reason
        raise Failure(str(error), ExitCode.DATA) from None
    specs = expand(design, opened, missing)
    return design, specs, hash_tasks(specs, opened), opened


def _directories(pairs: list[str]) -> dict[str, Path]:
    from advisor.terminal.failures import Failure
    from models.errors import ExitCode

    for pair in pairs:
        corpus, equals, directory = pair.partition("=")
        if not (corpus and equals and directory):
            raise Failure(f"--data {pair}: give a corpus and its directory, as cpsc2018=DIR", ExitCode.USAGE)
    return {corpus: Path(directory) for corpus, _, directory in (pair.partition("=") for pair in pairs)}


def _forecast(
    specs: "list[RunSpec]",
    data_hashes: Mapping[str, str],
    load: "Workload",
    workers: int | None,
    devices: "list[torch.device] | None",
    price: float | None,
) -> str:
    """Say what the runs cost: arithmetic, and with devices the time that a probe of each network predicts there."""
    from advisor.terminal.progress.study import in_words
    from studies.running.jobs import make_jobs
    from studies.running.lockstep_groups import Forecast, Kinds
    from studies.running.workplaces import default_workers, measure_side_by_side

    left = f"left: {len(specs):,} runs, {sum(map(load.gflop, specs)):,.0f} GFLOP"
    if devices is None:
        return left
    is_cpu = devices[0].type == "cpu"
    each = workers or (default_workers() if is_cpu else 1)
    side_by_side = each * len(devices)
    forecast = Forecast(load, Kinds(load, devices[0].type), side_by_side)
    forecast.speeds, forecast.start = measure_side_by_side(forecast.probes(specs), each, [str(one) for one in devices])
    seconds = forecast.seconds(make_jobs(specs, Path(), data_hashes, Path(), devices[0].type))
    cost = "" if price is None else f", {price * seconds / 3600:,.2f} at {price:g} an hour"
    where = f"{side_by_side} at a time" if is_cpu else f"{each} at a time on each GPU"
    return f"{left}, about {in_words(seconds)} on this machine, {where}{cost}"
