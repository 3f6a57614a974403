import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studies.runs.run_tables import tabulate
from studies.runs.tidy_runs import REQUIRED, RunsFileError, read_columns, read_runs

HEADER = [*REQUIRED, "upstream", "auroc_macro"]
ROW = {"task": "ward", "arch": "resnet1d18-w16", "strategy": "scratch", "n_records": "100", "replicate": "0",
       "upstream": "", "auroc_macro": "0.8"}  # fmt: skip


def write(path: Path, *rows: dict[str, str], header: list[str] | None = None) -> Path:
    header = header or list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rows_become_runs_and_other_columns_are_ignored(tmp_path: Path):
    rows = [
        ROW | {"mood": "fine", "n_records": "100.0"},
        ROW | {"strategy": "fine-tune", "upstream": "ptb-xl/all", "mood": ""},
        ROW | {"arch": "our-net", "upstream": "None"},
        ROW | {"arch": "gru", "family": "rnn"},
        {},
    ]
    found = read_runs(write(tmp_path / "runs.csv", *rows))
    assert [run.family for run in found.runs] == ["cnn", "cnn", "other", "rnn"]
    assert [run.upstream for run in found.runs] == [None, "ptb-xl/all", None, None]
    assert [run.n_records for run in found.runs] == [100] * 4
    assert [run.name for run in found.runs] == ["row 2", "row 3", "row 4", "row 5"]


def test_upstream_may_be_missing_where_all_is_from_scratch(tmp_path: Path):
    header = [*REQUIRED, "accuracy"]
    path = write(tmp_path / "runs.csv", ROW | {"accuracy": "0.7"}, header=header)
    assert read_runs(path, "accuracy").runs[0].score == 0.7


@pytest.mark.parametrize("name", ["accuracy", "roc_auc", "f1-macro", "Balanced_Accuracy"])
def test_the_only_column_of_scores_is_read_where_it_has_another_name_and_that_is_said(name: str, tmp_path: Path):
    row = {**ROW, name: "0.7", "seed": "3", "minutes": "0.5"}
    found = read_runs(write(tmp_path / "runs.csv", row, header=[*REQUIRED, "seed", name, "minutes"]))
    assert (found.metric, found.runs[0].score) == (name, 0.7)
    assert found.warnings[0] == f"there is no column auroc_macro: the scores are those of the column {name}"
    both = write(tmp_path / "both.csv", row | {"auroc_macro": "0.8"})
    assert (read_runs(both).metric, read_runs(both).warnings) == ("auroc_macro", ())


def test_a_score_of_zero_is_taken_where_chance_is_no_more(tmp_path: Path):
    row = ROW | {"f1": "0"}
    assert read_runs(write(tmp_path / "runs.csv", row), "f1").runs[0].score == 0
    with pytest.raises(RunsFileError, match="auc is 0, not between 0 and 1"):
        read_runs(write(tmp_path / "runs.csv", ROW | {"auc": "0"}), "auc")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"auroc_macro": "high"}, "row 3: auroc_macro is 'high', not a number"),
        ({"auroc_macro": "", "task": ""}, "row 3: task is empty"),
        ({"auroc_macro": "inf"}, "row 3: auroc_macro is 'inf'"),
        ({"auroc_macro": "87.3"}, "row 3: auroc_macro is 87.3, not between 0 and 1"),
        ({"auroc_macro": "0"}, "row 3: auroc_macro is 0, not between"),
        ({"auroc_macro": "-0.1"}, "row 3: auroc_macro is -0.1"),
        ({"n_records": "100.5"}, "row 3: n_records is '100.5', not a whole number"),
        ({"n_records": "many"}, "row 3: n_records is 'many'"),
        ({"n_records": "0"}, "row 3: n_records is '0', not a whole number of at least 1"),
        ({"n_records": "-5"}, "row 3: n_records is '-5'"),
        ({"n_records": "1e400"}, "row 3: n_records is '1e400'"),
        ({"replicate": "one"}, "row 3: replicate is 'one'"),
        ({"task": ""}, "row 3: task is empty"),
        ({"arch": "  "}, "row 3: arch is empty"),
        ({"strategy": "finetune"}, "row 3: unknown strategy 'finetune', did you mean fine-tune?"),
        ({"strategy": "magic"}, "row 3: unknown strategy 'magic', there is scratch, fine-tune"),
        ({"strategy": "fine-tune"}, "row 3: fine-tune has no upstream"),
        ({"upstream": "ptb-xl/all"}, "row 3: a run from scratch has the upstream 'ptb-xl/all'"),
        ({"replicate": "0"}, "row 3 repeats row 2 (ward resnet1d18-w16 scratch, n_records 100, replicate 0)"),
    ],
)
def test_every_problem_is_named_by_its_row(change: dict[str, str], says: str, tmp_path: Path):
    path = write(tmp_path / "runs.csv", ROW, ROW | {"replicate": "1"} | change)
    with pytest.raises(RunsFileError) as error:
        read_runs(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_all_problems_are_counted_and_the_first_five_named(tmp_path: Path):
    rows = [ROW | {"replicate": str(k), "auroc_macro": "high"} for k in range(8)]
    with pytest.raises(RunsFileError, match=r"row 6: .*; and 3 more$") as error:
        read_runs(write(tmp_path / "runs.csv", *rows))
    assert "row 7" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks the columns task, arch"),
        ("task,arch,strategy,replicate,auroc_macro\n", "lacks the column n_records"),
        (",".join([*REQUIRED, "accuracy", "f1"]), "no column auroc_macro; choose with --metric one of accuracy, f1"),
        (",".join([*REQUIRED, "seconds"]), "it has no column of scores"),
        (",".join([*HEADER, "task"]), "has the column task twice"),
        (",".join(HEADER), "holds no run"),
        (",".join(HEADER) + "\na,b,scratch\n", "row 2 has 3 cells, and the header 7"),
        (",".join(HEADER) + '\na,"b,scratch\n', "neither a CSV file"),
        (b"\xff\xfe\x00\x01" * 20, "neither a CSV file"),
        (b"SQLite format 3\x00" + b"\x07" * 200, "not a study store"),
    ],
)
def test_files_that_are_no_runs_are_refused(text: str | bytes, says: str, tmp_path: Path):
    path = tmp_path / "runs.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunsFileError, match=says):
        read_runs(path)


def test_a_file_that_is_not_there_and_a_metric_that_falls_are_refused(tmp_path: Path):
    with pytest.raises(RunsFileError, match="no runs file at"):
        read_runs(tmp_path / "none.csv")
    with pytest.raises(RunsFileError, match="cannot read"):
        read_runs(tmp_path)
    with pytest.raises(RunsFileError, match="brier falls with more records"):
        read_runs(write(tmp_path / "runs.csv", ROW), "brier")


def steps(metric: str, law: Callable[[int, int], float], arms: int = 1) -> list[dict[str, str]]:
    """Rows of three replicates at four sizes, of one network more for each arm."""
    row = {name: cell for name, cell in ROW.items() if name != "auroc_macro"}
    return [
        row | {"arch": f"net{k}", "n_records": str(n), "replicate": str(r), metric: f"{law(k, n) + r / 1000:.4f}"}
        for k in range(arms) for n in (100, 200, 400, 800) for r in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "NA", "<NA>", "None", "null", ".", "-", "N/A", "#DIV/0!", " "])
def test_a_run_without_a_score_is_left_out_and_counted(cell: str, tmp_path: Path):
    rows = [ROW, ROW | {"replicate": "1", "auroc_macro": cell}, ROW | {"replicate": "1", "auroc_macro": "0.7"}]
    found = read_runs(write(tmp_path / "runs.csv", *rows))
    assert [(run.name, run.score) for run in found.runs] == [("row 2", 0.8), ("row 4", 0.7)]
    assert found.warnings == ("1 of 3 runs have no auroc_macro and are left out",)


def test_columns_in_memory_may_lack_a_score_too():
    columns = {name: [cell] * 2 for name, cell in ROW.items()} | {"replicate": [0, 1], "auroc_macro": [0.8, np.nan]}
    found = read_columns(columns)
    assert [run.score for run in found.runs] == [0.8]
    assert found.warnings == ("1 of 2 runs have no auroc_macro and are left out",)


def test_a_table_without_any_score_is_refused(tmp_path: Path):
    rows = [ROW | {"replicate": str(k), "auroc_macro": cell} for k, cell in enumerate(("", "nan"))]
    path = write(tmp_path / "runs.csv", *rows)
    with pytest.raises(RunsFileError) as error:
        read_runs(path)
    assert str(error.value) == f"{path} holds no run that has a score: all auroc_macro are empty"


@pytest.mark.parametrize("metric", ["error_rate", "1-auc", "val_loss", "hamming"])
def test_a_metric_that_falls_is_neither_read_nor_offered(metric: str, tmp_path: Path):
    path = write(tmp_path / "runs.csv", ROW | {metric: "0.2"}, header=[*REQUIRED, metric, "seed"])
    for asked in ("auroc_macro", metric):
        with pytest.raises(RunsFileError, match=f"{metric} falls with more records: give ") as error:
            read_runs(path, asked)
        assert "--metric" not in str(error.value)
    both = write(
        tmp_path / "both.csv", ROW | {metric: "0.2", "accuracy": "0.7"}, header=[*REQUIRED, metric, "accuracy"]
    )
    assert read_runs(both).metric == "accuracy"
    two = write(tmp_path / "two.csv", ROW, header=[*REQUIRED, metric, "accuracy", "kappa"])
    with pytest.raises(RunsFileError, match=r"choose with --metric one of accuracy, kappa$"):
        read_runs(two)


def test_scores_that_fall_in_nearly_all_curves_are_refused_whatever_they_are_called(tmp_path: Path):
    falling = steps("score", lambda k, n: 0.05 + n**-0.4, arms=6)
    with pytest.raises(RunsFileError, match="score falls with more records in 6 of 6 curves"):
        read_runs(write(tmp_path / "all.csv", *falling), "score")
    nearly = steps("score", lambda k, n: 0.05 + n**-0.4 if k else 0.9 - n**-0.4, arms=6)
    with pytest.raises(RunsFileError, match="score falls with more records in 5 of 6 curves"):
        read_columns({name: [row[name] for row in nearly] for name in nearly[0]}, "score")
    half = steps("score", lambda k, n: 0.05 + n**-0.4 if k % 2 else 0.9 - n**-0.4, arms=6)
    assert len(read_runs(write(tmp_path / "half.csv", *half), "score").runs) == 72


def test_scores_that_neither_rise_nor_fall_are_taken(tmp_path: Path):
    ripple = {100: 0.8, 200: 0.804, 400: 0.799, 800: 0.799}
    assert len(read_runs(write(tmp_path / "flat.csv", *steps("score", lambda _, n: ripple[n], 2)), "score").runs) == 24
    assert len(read_runs(write(tmp_path / "level.csv", *steps("score", lambda *_: 0.8, 2)), "score").runs) == 24


def test_a_score_of_one_is_taken_and_said(tmp_path: Path):
    found = read_runs(write(tmp_path / "runs.csv", ROW, ROW | {"replicate": "1", "auroc_macro": "1.0"}))
    assert found.runs[1].score == 1
    assert "1 of 2 runs have auroc_macro 1" in found.warnings[0]


def test_a_store_gives_the_same_runs_as_its_table(tmp_path: Path, synthetic_store):
    from studies.collection.collect import collect

    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    table = collect(store, "s", tmp_path)[0]
    store.close()
    one, other = read_runs(tmp_path / "s.db"), read_runs(table)
    without_name = [
        {(run.task, run.arch, run.strategy, run.upstream, run.n_records, run.replicate, run.score) for run in of.runs}
        for of in (one, other)
    ]
    assert without_name[0] == without_name[1]
    assert len(one.runs) == 100
    assert one.pretrainings == other.pretrainings
    assert len(one.pretrainings) == 2
    with pytest.raises(RunsFileError, match="no metric loudness; it has auroc_macro"):
        read_runs(tmp_path / "s.db", "loudness")


def test_runs_of_a_store_without_the_metric_are_left_out(tmp_path: Path, synthetic_store, synthetic_run):
    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    run = synthetic_run("gru-w32", "scratch", 4000, 0, 0.9)
    store.add(replace(run, auroc_macro=None), np.zeros((2, 5)))
    store.close()
    found = read_runs(tmp_path / "s.db")
    assert (len(found.runs), found.warnings) == (100, ("1 of 103 runs have no auroc_macro and are left out",))
    with pytest.raises(RunsFileError, match="holds no run"):
        read_runs(tmp_path / "s.db", "auprc_macro")


def test_runs_are_arranged_by_task_network_and_upstream(tmp_path: Path):
    rows = [
        ROW | {"task": task, "n_records": str(n), "replicate": str(r), "strategy": strategy, "upstream": upstream,
               "auroc_macro": f"{0.7 + r / 10:.1f}"}
        for task, strategy, upstream in (
            ("ward", "scratch", ""), ("ward", "fine-tune", "a"), ("ward", "fine-tune", "b"), ("ward", "frozen", "a"),
            ("clinic", "scratch", ""), ("home", "fine-tune", "a"),
        )
        for n in (100, 200)
        for r in range(2)
        if not (strategy == "scratch" and n == 200 and r == 1)
    ]  # fmt: skip
    tables, left_out = tabulate(read_runs(write(tmp_path / "runs.csv", *rows)))
    assert [table.name for table in tables] == [
        "clinic resnet1d18-w16", "ward resnet1d18-w16 from a", "ward resnet1d18-w16 from b",
    ]  # fmt: skip
    assert left_out == [
        "4 frozen runs: curves are of scratch and fine-tune",
        "home resnet1d18-w16: fine-tuned only, without a run from scratch to compare with",
    ]
    clinic, ward, _ = tables
    assert not clinic.is_paired and ward.is_paired
    np.testing.assert_array_equal(ward.runs.scores["scratch"], [[0.7, 0.8], [0.7, np.nan]])
    assert (ward.replicates, ward.n_runs) == (1, 7)
    assert ward.points()["scratch"] == {100: [0.7, 0.8], 200: [0.7]}
    assert ward.without_largest(1).points()["fine-tune"] == {100: [0.7, 0.8]}


def test_runs_of_other_recipes_are_left_out(tmp_path: Path):
    rows = [ROW | {"recipe": recipe, "replicate": str(r)} for recipe in ("paper", "tuned") for r in range(2)]
    found = read_runs(write(tmp_path / "runs.csv", *rows))
    assert {run.recipe for run in found.runs} == {"tuned"}
    assert found.warnings == ("2 runs of other recipes than tuned are left out",)


CELLS = st.one_of(
    st.sampled_from(
        ["", "scratch", "fine-tune", "frozen", "ward", "nan", "1", "0", "0.5", "-1", "1e9", "1e999", "\x00", '"']
    ),
    st.text(max_size=8),
    st.floats().map(str),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(CELLS, min_size=7, max_size=7), max_size=6))
def test_no_file_ends_in_anything_but_runs_or_one_sentence(rows: list[list[str]], tmp_path: Path):
    path = tmp_path / "runs.csv"
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        writer = csv.writer(file)
        writer.writerows([HEADER, *rows])
    try:
        found = read_runs(path)
    except RunsFileError as error:
        assert str(error).startswith((str(path), "no runs file"))
        assert "\n" not in str(error)
        return
    assert found.runs
    for run in found.runs:
        assert run.task and run.arch and run.n_records >= 1 and 0 < run.score <= 1
    tabulate(found)


def test_runs_of_two_precisions_are_two_curves_and_no_repetition(tmp_path: Path):
    rows = [
        ROW | {"strategy": arm, "upstream": upstream, "precision": precision}
        for arm, upstream in (("scratch", ""), ("fine-tune", "up"))
        for precision in ("float32", "bf16")
    ]
    found = read_runs(write(tmp_path / "runs.csv", *rows))
    assert [run.precision for run in found.runs] == ["float32", "bf16"] * 2
    tables, left_out = tabulate(found)
    assert [(table.name, table.n_runs) for table in tables] == [
        ("ward resnet1d18-w16 from up", 2), ("ward resnet1d18-w16 from up, bf16", 2),
    ]  # fmt: skip
    assert left_out == []
    with pytest.raises(RunsFileError, match="row 6 repeats row 3"):
        read_runs(write(tmp_path / "twice.csv", *rows, rows[1]))


def test_a_fine_tuned_run_has_no_comparison_in_another_precision(tmp_path: Path):
    rows = [
        ROW | {"precision": "float32"},
        ROW | {"strategy": "fine-tune", "upstream": "up", "precision": "bf16"},
    ]
    tables, left_out = tabulate(read_runs(write(tmp_path / "runs.csv", *rows)))
    assert [table.is_paired for table in tables] == [False]
    assert left_out == ["ward resnet1d18-w16, bf16: fine-tuned only, without a run from scratch to compare with"]


def test_an_unknown_precision_is_refused_by_row_and_capitals_do_not_matter(tmp_path: Path):
    rows = [ROW | {"precision": "BF16"}, ROW | {"replicate": "1", "precision": ""}]
    assert [run.precision for run in read_runs(write(tmp_path / "r.csv", *rows)).runs] == ["bf16", None]
    rows += [ROW | {"replicate": "2", "precision": "fp16"}]
    with pytest.raises(RunsFileError, match=r"row 4: precision is 'fp16', not float32 or bf16"):
        read_runs(write(tmp_path / "r.csv", *rows))


def test_a_score_called_precision_stays_one(tmp_path: Path):
    rows = [{name: cell for name, cell in ROW.items() if name != "auroc_macro"} | {"precision": "0.75"}]
    path = write(tmp_path / "runs.csv", *rows)
    for found in (read_runs(path), read_runs(path, "precision")):
        assert (found.metric, found.runs[0].score, found.runs[0].precision) == ("precision", 0.75, None)
    rows[0] |= {"accuracy": "0.8", "precision": "bf16"}
    found = read_runs(write(tmp_path / "named.csv", *rows))
    assert (found.metric, found.runs[0].score, found.runs[0].precision) == ("accuracy", 0.8, "bf16")
