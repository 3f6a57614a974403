"""Minutes on a GPU that is at hand rarely: its tests, its throughput, then a study in the order of what runs are worth.

    python tests/gpu/kit.py --minutes 10 --out DIR
    python tests/gpu/kit.py --minutes 5 --out DIR2 --resume DIR --skip tests throughput      # goes on elsewhere
    python tests/gpu/kit.py --minutes 2 --out DIR2 --work DIR.work --skip tests throughput   # goes on on that machine

Needs this source tree, torch and the prepared corpora of the design; nothing is installed and nothing fetched.
Each part runs in a process of its own, which is ended when its time is over; what does not work is written down and the
next part goes on. ``DIR`` gets six files of less than 16 MB at most, each whole or not there, and is brought up to date
every few seconds: ``figures.json``, ``log.txt``, the study's store in the parts that ``ecgadvise study collect --from
DIR`` takes (``studies.collection.parted_store``), and those of its pre-trained networks that fit into one file.
README.md next to this file says how to use it.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from importlib import metadata, util
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]  # a source tree that is not installed

FILES, LIMIT = 6, 16_000_000
SKIPPABLE = ("tests", "throughput")
ARCHS = ("resnet1d18", "resnet1d50", "xresnet1d101", "gru", "lstm")
_TESTS_SECONDS, _THROUGHPUT_SECONDS = 120.0, 60.0  # at most, of ten minutes; of fewer, the same share
_MINUTES = 10.0
_LEAVE_SECONDS = 20.0  # between two writings of the store's parts
_OUTCOME = re.compile(r"^(tests/\S+\.py::.+?) (PASSED|FAILED|ERROR|SKIPPED)")
_LOST = "DELETE FROM {} WHERE key IN (SELECT value FROM json_each(?))"


def main() -> None:
    """Run every part, or the one that a process of the kit is for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=_MINUTES, help="for everything, the writing included (10)")
    parser.add_argument("--out", type=Path, required=True, help="folder for what goes back")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (auto)")
    parser.add_argument("--design", type=Path, default=ROOT / "studies" / "designs" / "ptbxl.toml")
    parser.add_argument("--corpora", type=Path, help="folder of prepared corpora (the user's data folder)")
    parser.add_argument("--resume", type=Path, help="what an earlier call left")
    parser.add_argument("--work", type=Path, help="folder for the whole store (OUT.work)")
    parser.add_argument("--workers", type=int, help="worker processes a device (one a GPU, one a processor)")
    parser.add_argument("--precision", choices=("float32",), help="for runs that go with a processor's (bf16)")
    parser.add_argument("--archs", nargs="+", default=ARCHS, help="networks whose throughput is measured")
    parser.add_argument("--skip", nargs="*", default=[], choices=SKIPPABLE, help="what an earlier call has done")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.work = arguments.work or arguments.out.with_name(f"{arguments.out.name}.work")
    if arguments.corpora is not None:
        os.environ["ECGADVISE_CORPORA"] = str(arguments.corpora.resolve())
    if arguments.precision is not None:
        os.environ |= {"ECGADVISE_PRECISION": arguments.precision, "NVIDIA_TF32_OVERRIDE": "0"}
    if arguments.part is not None:
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        PARTS[arguments.part](arguments)
        return
    Kit(arguments).run()


class Kit:
    """The process that starts the parts, watches the clock and writes what goes back."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.started = time.monotonic()
        self.seconds = 60 * arguments.minutes
        self.out, self.work = arguments.out, arguments.work
        self.skip, self.words = arguments.skip, sys.argv[1:]
        self.store = self.work / "study.db"
        self.figures: dict[str, Any] = {"schema_version": 1, "command": ["kit.py", *self.words], "parts": {}}
        self.left_out: list[str] = []
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)

    def run(self) -> None:
        """Run the parts one after another."""
        scale = min(1.0, self.seconds / (60 * _MINUTES))
        try:
            self.part("environment", self._child("environment"), min(30.0, 0.2 * self.seconds))
            self.figures["environment"] = _last_json(self._output("environment"))
            if "tests" not in self.skip:
                self.part("gpu tests", self._pytest(), _TESTS_SECONDS * scale)
                self.figures["gpu_tests"] = _count_tests(self._output("gpu tests"))
            if "throughput" not in self.skip:
                self.part("throughput", self._child("throughput"), _THROUGHPUT_SECONDS * scale)
                self.figures["throughput"] = _all_json(self._output("throughput"))
            last = min(max(4.0, 0.06 * self.seconds), 25.0)  # for runs that end, and for the last writing
            seconds = self.left() - last
            self.part("study", self._child("study", "--seconds", f"{seconds:.1f}"), seconds + 0.6 * last)
        finally:
            self.leave()
            self.log(f"left in {self.out}: {json.dumps(self.figures['files'])}")
            self.log(f"{time.monotonic() - self.started:.1f} of {self.seconds:.0f} s")

    def left(self) -> float:
        """Return the seconds that are left of all."""
        return self.started + self.seconds - time.monotonic()

    def part(self, name: str, command: Sequence[str], seconds: float) -> None:
        """Run a part for so many seconds at most and write down how it ended."""
        seconds = min(seconds, self.left())
        self.log(f"{name}: {seconds:.0f} s at most")
        started = time.monotonic()
        ended = "no time was left"
        if seconds > 0:
            try:
                ended = self._watch(name, command, started + seconds)
            except OSError as error:
                ended = f"not started: {error}"
        self.figures["parts"][name] = {"seconds": round(time.monotonic() - started, 1), "ended": ended}
        self.log(f"{name}: {ended}, {time.monotonic() - started:.1f} s")
        self.leave()

    def log(self, sentence: str) -> None:
        """Say it and keep it."""
        line = f"{time.monotonic() - self.started:6.1f} s  {sentence}\n"
        sys.stdout.write(line)
        sys.stdout.flush()
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line)

    def leave(self) -> None:
        """Bring what goes back up to date; what cannot be written is logged."""
        self.left_out = []
        if self.store.is_file():
            try:
                self._leave_store()
                self.figures["study"] = _count_runs(self.store, self._output("study"))
            except Exception as error:  # noqa: BLE001 whatever it is, the rest is still written
                self.left_out.append(f"the store of this moment: {type(error).__name__}: {error}")
                self.log(f"not written: {self.left_out[-1]}")
        self.figures["left_out"] = self.left_out
        self.figures["seconds"] = round(time.monotonic() - self.started, 1)
        sizes = {path.name: path.stat().st_size for path in sorted(self.out.iterdir()) if path.name[0] != "."}
        self.figures["files"] = {**sizes, "figures.json": sizes.get("figures.json", 0)}
        _write_whole(self.out / "figures.json", json.dumps(self.figures, indent=1).encode())

    def _leave_store(self) -> None:
        from studies.collection.parted_store import NETWORKS, split_store

        staged = self.work / "leaving"
        parts = {path.name: path for path in split_store(self.store, staged)}
        if NETWORKS in parts:
            networks = _fitting_networks(parts[NETWORKS], self.store, LIMIT)
            self.left_out += networks
        room = FILES - 2  # the log and the figures
        for name in sorted(parts, key=lambda name: (name != "study.db", name != NETWORKS, name)):
            if (size := parts[name].stat().st_size) >= LIMIT or not room:
                self.left_out.append(f"{name}, {size / 1e6:.1f} MB")
                continue
            room -= 1
            _write_whole(self.out / name, parts[name].read_bytes())

    def _watch(self, name: str, command: Sequence[str], deadline: float) -> str:
        """Run a command until its deadline, its output in a file of its own and in the log; say how it ended."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        environment |= {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"
        }  # a plugin that we do not know may warn, which is an error
        output = self._output(name)
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                next_time = 0.0
                while process.poll() is None and time.monotonic() < deadline:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(min(0.5, max(0.01, deadline - time.monotonic())))
                    if time.monotonic() > next_time:
                        self.leave()
                        next_time = time.monotonic() + min(_LEAVE_SECONDS, 0.02 * self.seconds)
                overtime = process.poll() is None
            finally:
                _end_group(process)
        shown = output.read_text(encoding="utf-8", errors="replace")
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(_shortened(shown, LIMIT // 8))
        if overtime:
            return "ended when its time was over"
        return "done" if process.returncode == 0 else f"failed with exit code {process.returncode}"

    def _output(self, name: str) -> Path:
        return self.work / f"{name.replace(' ', '-')}.log"

    def _child(self, part: str, *more: str) -> list[str]:
        return [sys.executable, str(Path(__file__).resolve()), *_absolute(self.words), "--part", part, *more]

    def _pytest(self) -> list[str]:
        """Return the command for the tests marked ``gpu``; other files may import what is not there."""
        files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
        names = [str(path.relative_to(ROOT)) for path in files]
        # A warning of another version of a package is no failure here.
        options = ["-m", "gpu", "-v", "--tb=short", "-W", "default", "-p", "no:cacheprovider"]
        options += ["--continue-on-collection-errors"]
        return [sys.executable, "-m", "pytest", *options, *names]


def environment(arguments: argparse.Namespace) -> None:
    """Print what the figures were made with."""
    import torch

    from engine.compute.devices import choose_device, describe_device
    from engine.versions import training_versions

    device = choose_device(arguments.device)
    wanted = ("scipy", "scikit-learn", "safetensors", "statsmodels", "typer", "rich", "pytest", "triton")
    facts: dict[str, Any] = {
        "device": describe_device(device),
        "versions": training_versions(str(torch.__version__)) | {name: _installed(name) for name in wanted},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "processors": os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(arguments.work).free / 1e9, 1),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": list(torch.cuda.get_device_capability(device)),
        }
        query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,power.limit", "--format=csv,noheader"]
        with suppress(OSError, subprocess.TimeoutExpired):
            facts["nvidia_smi"] = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False).stdout
    _say_json(facts)


def throughput(arguments: argparse.Namespace) -> None:
    """Print a row for every network: records/s in training, against a plain loop and against the arithmetic limit."""
    import torch

    from engine.compute.devices import choose_device
    from models.registry import find_network

    torch.set_num_threads(1)
    device = choose_device(arguments.device)
    batch_size, runs, rounds, batches = (256, 8, 3, 8) if device.type == "cuda" else (16, 2, 1, 1)
    training, lockstep = _benchmark("training"), _benchmark("lockstep")
    for arch in arguments.archs:
        with _written_down(arch):
            for row in training.cuda_rows(device, [arch], batch_size, rounds, batches):
                _say_json({"benchmark": "training", "network": arch, **_as_dict(row)})
    for arch in arguments.archs:
        if find_network(arch).family == "rnn":
            with _written_down(f"{arch} in lockstep"):
                for row in lockstep.lockstep_rows(device, [arch], runs, rounds, batches):
                    _say_json({"benchmark": "lockstep", "network": arch, **_as_dict(row)})


def study(arguments: argparse.Namespace) -> None:
    """Run the design until the seconds are over, a line a run."""
    deadline = time.monotonic() + arguments.seconds
    from engine.corpora.corpus import default_corpora
    from studies.collection.parted_store import bring_together
    from studies.running.design import read_design
    from studies.running.expansion import expand, hash_tasks
    from studies.running.lockstep_groups import Kinds
    from studies.running.progress import Progress
    from studies.running.runner import run_study
    from studies.running.study_corpora import open_corpora
    from studies.running.workload import Workload
    from studies.running.workplaces import choose_workplace
    from studies.runs.store import Store

    folder = arguments.corpora or default_corpora()
    design = read_design(arguments.design)
    opened, missing = open_corpora(design, folder)
    design, missing = _leave_out(design, missing)
    specs = expand(design, opened, missing)
    path = arguments.work / "study.db"
    if arguments.resume is not None and not path.exists():
        sys.stdout.write("\n".join(bring_together(path, [arguments.resume])[1]) + "\n")
    store, load, data_hashes = Store(path), Workload(opened), hash_tasks(specs, opened)
    if again := _forget_without_network(path, specs, data_hashes):
        sys.stdout.write(f"{again} pre-trained networks did not come along: they are pre-trained again\n")
    begun, last = time.monotonic(), [""]

    def report(progress: Progress) -> None:
        if progress.last != last[0]:
            last[0] = progress.last
            counts = f"{progress.done} of {progress.total} done, {progress.failed} failed"
            sys.stdout.write(f"{time.monotonic() - begun:6.1f} s of the study: {counts}: {progress.last}\n")

    with choose_workplace(None, arguments.workers, arguments.device, load) as workplace:
        place = replace(workplace, kind=Kinds(load, "cuda"))  # the groups of a GPU are rehearsed on a processor, too
        progress = run_study(specs, store, folder, data_hashes, place, report, work=load.gflop, deadline=deadline)
    store.close()
    _say_json({"runs": progress.total, "done": progress.done, "failed": progress.failed})


def _leave_out(design: Any, missing: Mapping[str, str]) -> tuple[Any, Mapping[str, str]]:
    """Return the design without the grids whose corpora are not there, named: the minutes are for the others.

    Of a design of which nothing would be left, all, and what is missing.
    """
    from studies.runs.task_names import parse_task

    def lacks(grid: Any) -> bool:
        return not missing.keys().isdisjoint(parse_task(task).source for task in (*grid.tasks, *grid.upstreams))

    kept = tuple(grid for grid in design.grids if not lacks(grid))
    if not kept:
        return design, missing
    for grid in filter(lacks, design.all_grids):
        sys.stdout.write(f"left out, no such corpus: {', '.join((*grid.tasks, *grid.upstreams))}\n")
    tuning = None if design.tuning is None or lacks(design.tuning) else design.tuning
    return replace(design, grids=kept, tuning=tuning), {}


PARTS = {"environment": environment, "throughput": throughput, "study": study}


def _forget_without_network(path: Path, specs: Sequence[Any], data_hashes: Mapping[str, str]) -> int:
    """Take runs out of a store whose network is needed and did not come along, to run them again; return how many."""
    import sqlite3

    from studies.running.study_networks import folder_of
    from studies.runs.run_spec import find_keys
    from studies.runs.store import Store

    with closing(Store(path)) as store:
        stored = store.keys()
    keys = find_keys(specs, data_hashes)
    needed = {keys[start] for spec in specs if keys[spec] not in stored and (start := spec.pretraining()) is not None}
    lost = [key for key in sorted(needed & stored) if not (folder_of(path) / key).is_dir()]
    with closing(sqlite3.connect(path)) as connection, connection:
        for table in ("predictions", "runs"):
            connection.execute(_LOST.format(table), [json.dumps(lost)])
    return len(lost)


def _fitting_networks(archive: Path, store: Path, limit: int) -> list[str]:
    """Compress the archive; keep what fits, small networks first, of equal ones that of most records; name the rest."""
    from studies.runs.store import Store

    with closing(Store(store, create=False)) as opened:
        records = {run.key: run.n_records for run in opened.runs()}
    with ZipFile(archive) as whole:
        sizes: Counter[str] = Counter()
        for info in whole.infolist():
            sizes[info.filename.split("/")[0]] += info.file_size
        order = sorted(sizes, key=lambda key: (sizes[key] // 2_000_000, -records.get(key, 0), key))
        kept, taken = archive.with_suffix(".kept"), 0
        left_out = []
        with ZipFile(kept, "w", ZIP_DEFLATED, compresslevel=1) as target:
            for key in order:
                if taken + 0.96 * sizes[key] > limit:  # what float32 weights can be compressed to, hardly less
                    left_out.append(f"network {key}, {sizes[key] / 1e6:.1f} MB")
                    continue
                for name in (name for name in whole.namelist() if name.startswith(f"{key}/")):
                    target.writestr(name, whole.read(name))
                    taken += target.getinfo(name).compress_size + 2 * len(name) + 200
    kept.replace(archive)
    return left_out


def _count_runs(path: Path, output: Path) -> dict[str, Any]:
    """Return how many runs the store holds, network by network, and how many failed."""
    from studies.runs.store import Store

    with closing(Store(path, create=False)) as store:
        runs, failures = store.runs(), store.failures()
    said = _last_json(output)
    return {
        "runs_done": len(runs),
        "runs_of_design": said.get("runs"),
        "failed_attempts": [f"{key}: {error}" for key, error in failures][:50],
        "done_by_network": Counter(run.arch for run in runs),
        "ways": Counter(str(run.details.get("way")) for run in runs),
        "gflop": round(sum(run.gflop or 0.0 for run in runs)),
        "seconds_charged": round(sum(run.seconds or 0.0 for run in runs), 1),
        "seconds_taken": round(sum(run.details.get("wall_seconds", 0.0) for run in runs), 1),
    }


def _count_tests(output: Path) -> dict[str, Any]:
    """Return how the tests ended, from what they printed until then."""
    if not output.is_file():
        return {}
    found = [match.groups() for line in _lines(output) if (match := _OUTCOME.match(line))]
    bad = [name for name, outcome in found if outcome in ("FAILED", "ERROR")]
    return {**Counter(outcome.lower() for _, outcome in found), "not_passed": sorted(set(bad))}


def _installed(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _benchmark(name: str) -> ModuleType:
    """Load a benchmark, which is no package."""
    spec = util.spec_from_file_location(name, ROOT / "tests" / "benchmarks" / f"{name}.py")
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    with _written_down(f"tests/benchmarks/{name}.py"):
        spec.loader.exec_module(module)
    return module


class _written_down:  # noqa: N801 a context manager, used as a function
    """Print an error as a row, and go on."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            _say_json({"network": self.what, "error": f"{type(error).__name__}: {error}"})
        return error is None or isinstance(error, Exception)


def _as_dict(row: Any) -> dict[str, Any]:
    return row._asdict() if hasattr(row, "_asdict") else asdict(row)


def _say_json(facts: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _all_json(output: Path) -> list[dict[str, Any]]:
    found = []
    for line in _lines(output):
        with suppress(ValueError):
            found += [json.loads(line)] if line.startswith("{") else []
    return found


def _last_json(output: Path) -> dict[str, Any]:
    return next(reversed(_all_json(output)), {})


def _lines(output: Path) -> Iterator[str]:
    if output.is_file():
        yield from output.read_text(encoding="utf-8", errors="replace").splitlines()


def _absolute(words: Sequence[str]) -> list[str]:
    """Return arguments whose paths do not depend on the folder that a part runs in."""
    paths = {"--out", "--design", "--corpora", "--resume", "--work"}
    return [str(Path(word).resolve()) if k and words[k - 1] in paths else word for k, word in enumerate(words)]


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2]}\n[...]\n{text[-limit // 2 :]}"


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that takes its name once it is whole."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_bytes(content)
    scratch.replace(path)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(1.0)


def _end_with_parent(parent: int) -> None:
    """End a part when the kit is gone, killed too, instead of working for nobody."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
