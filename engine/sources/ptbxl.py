"""PTB-XL as PhysioNet distributes it: ``ptbxl_database.csv``, ``scp_statements.csv``, ``records100/``, ``records500/``.

Tasks follow Strodthoff et al., "Deep learning for ECG analysis: benchmarks and insights from PTB-XL", IEEE J. Biomed.
Health Inform. 25(5) (2021): every statement of a record counts whatever its likelihood, and a task keeps the records
that have at least one of its classes. Ours are two tasks to pre-train on, whose labels a downstream task does not use,
as between two hospitals: ``non-diagnostic``, the form and rhythm statements without a diagnostic superclass, and
``diagnostic-only``, the diagnostic statements that are neither form nor rhythm; and single statements against all other
records (``AFIB``, ``LVH``, ...), because every new dataset is a new task and the spread between tasks must be learnt.

The table writes sex as 0 for male and 1 for female, and an age above 89 as 300: such an age is None here, unknown.
"""

import ast
from collections.abc import Mapping
from pathlib import Path

from engine.records.record import LEADS, Record
from engine.records.wfdb_reader import read_wfdb
from engine.sources import Entry, SourceError, TaskDefinition
from engine.sources.publishers import PTB_XL
from engine.sources.tables import parse_age, read_rows

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
SINGLE_STATEMENTS = ("AFIB", "LVH", "IMI", "ASMI", "CLBBB", "CRBBB", "1AVB", "ISC_")
_TABLE_COLUMNS = ("ecg_id", "patient_id", "scp_codes", "strat_fold")
_FILE_COLUMNS = {100: "filename_lr", 500: "filename_hr"}
_SEXES = {0.0: "male", 1.0: "female"}


class PtbXl:
    """The PTB-XL tree in a directory, read at 100 or 500 Hz. Raises SourceError when the directory is not one.

    Whatever is read, a corpus is at 100 Hz: reading at 500 Hz means that our filter resamples, not the publisher's.
    """

    name, version, licence, url, citation = PTB_XL
    inferred: tuple[str, ...] = ()
    leads: tuple[str, ...] = LEADS

    def __init__(self, root: Path, read_fs: int = 100) -> None:
        if read_fs not in _FILE_COLUMNS:
            raise SourceError(f"PTB-XL comes at 100 and 500 Hz, not {read_fs}")
        if read_fs != 100:
            self.name = f"{PTB_XL.name}-{read_fs}hz"
        self.root = root
        self._file_column = _FILE_COLUMNS[read_fs]
        self._rows = read_rows(root / "ptbxl_database.csv", (*_TABLE_COLUMNS, self._file_column), "PTB-XL")
        columns = ("", "description", "form", "rhythm", "diagnostic_class", "diagnostic_subclass")
        statements = read_rows(root / "scp_statements.csv", columns, "PTB-XL")
        self.labels = tuple(row[""] for row in statements)
        self.tasks: Mapping[str, TaskDefinition] = _define_tasks(statements)

    def entries(self) -> list[Entry]:
        """List every record of ``ptbxl_database.csv``. Raises SourceError for a malformed row."""
        return [self._entry(row, line) for line, row in enumerate(self._rows, start=2)]

    def read(self, entry: Entry) -> Record:
        """Read one record. Raises RecordError."""
        return read_wfdb(entry.path)

    def _entry(self, row: dict[str, str], line: int) -> Entry:
        try:
            statements = frozenset(ast.literal_eval(row["scp_codes"]))
            patient = str(int(float(row["patient_id"])))
            fold = int(row["strat_fold"])
        except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as error:
            raise SourceError(f"{self.root / 'ptbxl_database.csv'}, line {line}: {error}") from None
        unknown = statements - set(self.labels)
        if unknown:
            raise SourceError(
                f"ptbxl_database.csv, line {line}: {', '.join(sorted(map(str, unknown)))} not in scp_statements.csv"
            )
        path = self.root / row[self._file_column]
        age, sex = parse_age(row.get("age", "")), _parse_sex(row.get("sex", ""))
        return Entry(row["ecg_id"], path, patient, statements, fold, age, sex)


def _parse_sex(text: str) -> str | None:
    try:
        return _SEXES.get(float(text))
    except ValueError:
        return None


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
        "subclass": TaskDefinition("the diagnostic subclasses", _subclasses(statements)),
        "diagnostic-only": TaskDefinition(
            "diagnostic statements that are neither form nor rhythm",
            {code: [code] for code in superclass if code not in {*form, *rhythm}},
        ),
        **{
            row[""]: TaskDefinition(f"{row['description']}, against all other records", {row[""]: [row[""]]}, False)
            for row in statements
            if row[""] in SINGLE_STATEMENTS
        },
    }


def _subclasses(statements: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return the statements of each of the 23 diagnostic subclasses, by superclass, then by the subclass's name."""
    rows = [row for row in statements if row["diagnostic_class"] and row["diagnostic_subclass"]]
    parents = {row["diagnostic_subclass"]: row["diagnostic_class"] for row in rows}
    ranks = {name: rank for rank, name in enumerate(SUPERCLASSES)}
    names = sorted(parents, key=lambda name: (ranks.get(parents[name], len(ranks)), name))
    return {name: [row[""] for row in rows if row["diagnostic_subclass"] == name] for name in names}
