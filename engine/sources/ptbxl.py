"""PTB-XL as PhysioNet distributes it: ``ptbxl_database.csv``, ``scp_statements.csv``, ``records100/``.

Tasks follow Strodthoff et al., "Deep learning for ECG analysis: benchmarks and insights from PTB-XL", IEEE J. Biomed.
Health Inform. 25(5) (2021): every statement of a record counts whatever its likelihood, and a task keeps the records
that have at least one of its classes. ``non-diagnostic`` is ours: the form and rhythm statements that belong to no
diagnostic superclass, so that a network can be pre-trained on labels which ``superclass`` does not use.
"""

import ast
import csv
from collections.abc import Mapping
from pathlib import Path

from engine.records import LEADS, Record, read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
_TABLE_COLUMNS = {"ecg_id", "patient_id", "scp_codes", "strat_fold", "filename_lr"}


def _read_rows(path: Path, columns: set[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError:
        raise SourceError(f"{path.parent} is no PTB-XL tree: it has no {path.name}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    missing = columns - set(reader.fieldnames or ())
    if missing:
        raise SourceError(f"{path} lacks the column {', '.join(sorted(missing))}")
    return rows


class PtbXl:
    """The PTB-XL tree in a directory, at 100 Hz. Raises SourceError when the directory is not one."""

    name = "ptb-xl"
    version = "1.0.3"
    licence = "CC BY 4.0"
    url = "https://physionet.org/content/ptb-xl/1.0.3/"
    citation = "Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, Sci Data 7:154 (2020)"
    fs = 100.0
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rows = _read_rows(root / "ptbxl_database.csv", _TABLE_COLUMNS)
        statements = _read_rows(root / "scp_statements.csv", {"", "form", "rhythm", "diagnostic_class"})
        self.labels = tuple(row[""] for row in statements)
        self.tasks: Mapping[str, TaskDefinition] = _define_tasks(statements)

    def entries(self) -> list[Entry]:
        """List every record of ``ptbxl_database.csv``. Raises SourceError for a malformed row."""
        return [self._entry(row, line) for line, row in enumerate(self._rows, start=2)]

    def read(self, entry: Entry) -> Record:
        """Read one 100 Hz record. Raises RecordError."""
        return read_wfdb(entry.path)

    def _entry(self, row: dict[str, str], line: int) -> Entry:
        try:
            statements = frozenset(ast.literal_eval(row["scp_codes"]))
            patient = str(int(float(row["patient_id"])))
            fold = int(row["strat_fold"])
        except (ValueError, SyntaxError, TypeError) as error:
            raise SourceError(f"{self.root / 'ptbxl_database.csv'}, line {line}: {error}") from None
        unknown = statements - set(self.labels)
        if unknown:
            raise SourceError(
                f"ptbxl_database.csv, line {line}: {', '.join(sorted(unknown))} not in scp_statements.csv"
            )
        return Entry(row["ecg_id"], self.root / row["filename_lr"], patient, statements, fold)


def _define_tasks(statements: list[dict[str, str]]) -> dict[str, TaskDefinition]:
    def named(column: str) -> list[str]:
        return [row[""] for row in statements if row[column] in {"1", "1.0"}]

    superclass = {row[""]: row["diagnostic_class"] for row in statements if row["diagnostic_class"]}
    form, rhythm = named("form"), named("rhythm")
    non_diagnostic = [code for code in [*form, *rhythm] if code not in superclass]
    return {
        "superclass": TaskDefinition(
            "the five diagnostic superclasses",
            {name: [code for code, parent in superclass.items() if parent == name] for name in SUPERCLASSES},
        ),
        "form": TaskDefinition("the form statements", {code: [code] for code in form}),
        "rhythm": TaskDefinition("the rhythm statements", {code: [code] for code in rhythm}),
        "all": TaskDefinition("all statements", {row[""]: [row[""]] for row in statements}),
        "non-diagnostic": TaskDefinition(
            "form and rhythm statements that belong to no diagnostic superclass",
            {code: [code] for code in dict.fromkeys(non_diagnostic)},
        ),
    }
