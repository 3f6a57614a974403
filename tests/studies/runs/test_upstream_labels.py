"""Upstreams with the task's own labels stand apart from the main arm."""

from dataclasses import replace

from studies.findings.pretraining.upstreams import upstream_lines
from studies.runs.run import Run
from studies.runs.upstream_labels import main_arm, sharing_labels

SHARING = frozenset({("a/five", "a/all"), ("a/form", "a/all")})


def run(task: str, upstream: str | None, score: float, replicate: int = 0, n: int = 100) -> Run:
    return Run(
        task=task, arch="cnn1", family="cnn", strategy="scratch" if upstream is None else "fine-tune",
        upstream=upstream, n_records=n, replicate=replicate, auroc_macro=score,
    )  # fmt: skip


def record(task: str, role: str, classes: str, upstream: str | None = None) -> Run:
    return replace(run(task, upstream, 0.7), key=f"key of {task}", role=role, details={"classes": list(classes)})


def test_an_upstream_shares_labels_by_their_names():
    records = [
        record("a/all", "pretraining", "MNOP"), record("a/other", "pretraining", "OP"),
        record("a/five", "downstream", "MN", "a/all"), record("a/five", "downstream", "MN", "a/other"),
        record("a/five", "downstream", "MN"), record("b/two", "downstream", "XY", "a/all"),
    ]  # fmt: skip
    assert sharing_labels(records) == {("a/five", "a/all")}


def test_a_name_that_two_sources_share_is_not_the_same_label():
    records = [record("a/all", "pretraining", "MN"), record("b/five", "downstream", "MN", "a/all")]
    assert sharing_labels(records) == frozenset()


def test_the_main_arm_leaves_out_such_an_upstream_where_there_is_another():
    scratch, shared, other = run("a/five", None, 0.7), run("a/five", "a/all", 0.9), run("a/five", "a/other", 0.8)
    alone = [run("a/form", None, 0.6), run("a/form", "a/all", 0.8)]
    assert main_arm([scratch, shared, other, *alone], SHARING) == (scratch, other, *alone)


def test_what_the_task_s_labels_add_is_compared_on_the_same_records():
    runs = [
        made
        for k in range(3)
        for made in (
            run("a/five", None, 0.7, k), run("a/five", "a/all", 0.9 + 0.01 * k, k), run("a/five", "a/other", 0.8, k)
        )
    ]  # fmt: skip
    alone = [run("a/five", None, 0.7, 9), run("a/five", "a/all", 0.5, 9)]
    *_, row = upstream_lines([*runs, *alone], SHARING)
    assert row.startswith("| a/five | cnn1 | a/all (own labels) - a/other | 100 | +0.110 (")
    assert row.endswith("|  | 3 |")


def test_two_upstreams_are_compared_whoever_s_labels_they_have():
    runs = [run("c/two", upstream, 0.7, k) for k in range(2) for upstream in (None, "a/all")]
    better = [run("c/two", "b/rhythm", 0.75 + 0.004 * k, k) for k in range(2)]
    *_, row = upstream_lines([*runs, *better], SHARING)
    assert row.startswith("| c/two | cnn1 | a/all - b/rhythm | 100 | -0.052 (")
    assert len(upstream_lines(runs, SHARING)) == 1
