"""What was made of a dataset, and how all of it goes: the row last, so that after a crash it is known what is left."""

import json
import shutil
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from advisor.service.problems import Problem
from advisor.service.served_models.intake import forget
from advisor.service.store import ServiceStore, ServiceStoreError

LEAVING = "it is being deleted"
_MODELS = "SELECT DISTINCT model FROM jobs WHERE dataset = ? AND kind = 'train' AND model IS NOT NULL"
_JOBS = (  # a study names its datasets in what was asked for alone
    f"SELECT id FROM jobs WHERE dataset = ? OR instr(request, ?) OR model IN ({_MODELS}) ORDER BY created, id"
)
_ACTIVE = "SELECT id, dataset, model, request FROM jobs WHERE state IN ('queued', 'running') ORDER BY created, id"


@dataclass(frozen=True)
class Deleted:
    """What was removed with a dataset, by name; ``records`` is False for a folder of the operator's, which stays."""

    id: str
    name: str
    records: bool
    jobs: tuple[str, ...]
    models: tuple[str, ...]
    pilots: tuple[str, ...]
    prepared: tuple[str, ...]


def begin(store: ServiceStore, which: str) -> None:
    """Let nothing new begin on a dataset. Raises Problem where a job on it, or on a model of it, waits or runs."""
    with store.transaction() as db:
        mine = {which, *(row["model"] for row in db.execute(_MODELS, (which,)))}
        if active := [job["id"] for job in db.execute(_ACTIVE) if _reads(job, mine)]:
            named = ", ".join(active[:3])
            raise Problem(409, f"{which} is in use by {named}: cancel that first, or wait for its end", jobs=active)
        db.execute("UPDATE datasets SET state = 'refused', problem = ? WHERE id = ?", (LEAVING, which))


def _reads(job: sqlite3.Row, things: set[str]) -> bool:
    return job["dataset"] in things or job["model"] in things or any(f'"{one}"' in job["request"] for one in things)


def begin_if_unused(store: ServiceStore, which: str) -> bool:
    """Let nothing begin on a dataset that waits for its check and that no job is there for; say whether it was so."""
    with store.transaction() as db:
        changed = db.execute(
            "UPDATE datasets SET state = 'refused', problem = ? WHERE id = ? AND state = 'checking' "
            "AND NOT EXISTS (SELECT 1 FROM jobs WHERE dataset = ?)",
            (LEAVING, which, which),
        )
        return changed.rowcount == 1


def finish(store: ServiceStore, row: sqlite3.Row) -> Deleted:
    """Remove what was made of a dataset, its records and its row. Raises ServiceStoreError; then it can be repeated."""
    which, folder, uploaded = row["id"], Path(row["folder"]), bool(row["uploaded"])
    jobs = [job["id"] for job in store.rows(_JOBS, which, f'"{which}"', which)]
    models = sorted(model["model"] for model in store.rows(_MODELS, which))
    shared = store.rows("SELECT 1 FROM datasets WHERE folder = ? AND id != ?", row["folder"], which)
    try:
        prepared = [] if shared else _prepared_from(store, folder, row["fingerprint"])
        pilots = [_remove(path) for path in _pilots_on(store, prepared)]
        corpora = [_remove(path) for path in prepared]
        for path in (*(store.jobs / job for job in jobs), *(store.models / model for model in models)):
            _remove(path)
        if uploaded:
            _remove(store.datasets / which)
    except OSError as error:
        raise ServiceStoreError(
            f"{which} cannot be deleted completely: {error.strerror}: put that right and delete it again"
        ) from error
    _forget(store, which, jobs, models)
    return Deleted(which, row["name"], uploaded, *map(tuple, (jobs, models, pilots, corpora)))


def _forget(store: ServiceStore, which: str, jobs: Iterable[str], models: Iterable[str]) -> None:
    with store.transaction() as db:
        db.executemany("DELETE FROM jobs WHERE id = ?", [(job,) for job in jobs])
        for model in models:
            forget(db, model)
        db.execute("DELETE FROM datasets WHERE id = ?", (which,))


def _prepared_from(store: ServiceStore, folder: Path, known: str | None) -> list[Path]:
    """Return the folders of prepared records, as the dataset is now and as it was when it was taken."""
    from engine.corpora.opening import fingerprint, prepared_into

    states = {fingerprint(folder) if folder.is_dir() else None, known} - {None}
    return [path for state in sorted(filter(None, states)) for path in prepared_into(state, store.corpora)]


def _pilots_on(store: ServiceStore, prepared: list[Path]) -> list[Path]:
    """Return the folders of pilots on prepared records, but for those that another corpus with the same content has."""
    from advisor.own_records.pilots.folders import folders_of, own_folder
    from engine.corpora.opening import FROM_DIRECTORIES

    mine = {path for folder in prepared for path in folder.glob("*/corpus.json")}
    others = set(store.corpora.glob("*/corpus.json")) | set(store.corpora.glob(f"{FROM_DIRECTORIES}/*/*/corpus.json"))
    gone = {_content_hash(path) for path in mine} - {_content_hash(path) for path in others - mine} - {None}
    pilots, found = store.corpora / "pilots", []
    for content in sorted(filter(None, gone)):
        found += [path for path in folders_of(pilots, content) if path.is_relative_to(store.root)]
        found += [path for path in (own_folder(pilots, content),) if path.is_dir() and path not in found]
    return found


def _content_hash(manifest: Path) -> str | None:
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))["content_hash"]
    except (OSError, ValueError, KeyError, TypeError):  # one that no command takes for a corpus either
        return None
    return str(found)


def _remove(path: Path) -> str:
    """Remove a folder, or what is left of it, and return its name."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    return path.name
