"""``ecgadvise curves`` and ``ecgadvise backtest``, called as the command line calls them."""

import csv
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from advisor.cli import main

SCHEMA = json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())
HEADER = ("task", "arch", "strategy", "upstream", "n_records", "replicate", "auroc_macro")
SIZES = (100, 250, 500, 1000, 2000)
SVG = "{http://www.w3.org/2000/svg}"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ecgadvise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call the command in this process, which loads its libraries once."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ecgadvise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return call


def refused(ended: Ended, code: int) -> str:
    """Assert one sentence on stderr, nothing on stdout, and the exit code."""
    assert ended.code == code, ended
    assert ended.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", ended.err), ended.err
    return ended.err


def write_runs(path: Path, tasks: int = 1, fine_tuned: bool = True, arch: str = "our-net", replicates: int = 4) -> Path:
    """Runs of made tasks: fine-tuning is worth 300 records."""
    rng = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(HEADER)
        for task in range(tasks):
            for n in SIZES:
                for replicate in range(replicates):
                    for arm, worth in (("scratch", 0), ("fine-tune", 300))[: 1 + fine_tuned]:
                        score = 0.92 - 0.01 * task - 2 * (n + worth) ** -0.5 + 0.03 * n**-0.2 * 0.3 * rng.normal()
                        rows.writerow([f"ward-{task}", arch, arm, "up" if worth else "", n, replicate, f"{score:.5f}"])
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curves file of somebody's paired runs."""
    from studies.collection.curve_documents import fit_runs
    from studies.runs.tidy_runs import read_runs

    folder = tmp_path_factory.mktemp("ours")
    document = fit_runs(read_runs(write_runs(folder / "runs.csv")), "2026-01-02T03:04:05+00:00")
    (folder / "curves.json").write_text(json.dumps(document))
    return folder / "curves.json"


@pytest.mark.parametrize("metric", ["error_rate", "val_loss", "1-auc"])
def test_a_metric_that_falls_is_refused_by_every_command_and_offered_by_none(metric: str, ecgadvise, tmp_path: Path):
    runs, out = write_runs(tmp_path / "runs.csv"), tmp_path / "curves.json"
    runs.write_text(runs.read_text().replace("auroc_macro", metric))
    for arguments in (
        ("curves", "fit", "--runs", runs, "--out", out),
        ("curves", "fit", "--runs", runs, "--out", out, "--metric", metric),
        ("backtest", "--runs", runs),
        ("backtest", "--runs", runs, "--metric", metric),
    ):
        said = refused(ecgadvise(*arguments), 3)
        assert f"{metric} falls with more records: give " in said
        assert "--metric" not in said
    assert not out.exists()
    said = refused(ecgadvise("recommend", "--n-records", 500, "--arch", "cnn", "--metric", metric), 2)
    assert f"{metric} falls with more records: give " in said


def test_a_curves_file_of_a_metric_that_falls_offers_it_to_nobody(ecgadvise, fitted: Path, tmp_path: Path):
    older = tmp_path / "curves.json"
    older.write_text(fitted.read_text().replace('"auroc_macro"', '"error_rate"'))
    said = refused(ecgadvise("recommend", "--n-records", 500, "--arch", "our-net", "--curves", older), 2)
    assert "its error_rate falls with more records: give 1 - error_rate, which rises" in said


def test_from_somebodys_runs_to_an_answer(ecgadvise, tmp_path: Path):
    runs, out = write_runs(tmp_path / "runs.csv", arch="resnet1d18"), tmp_path / "curves.json"
    ended = ecgadvise("curves", "fit", "--runs", runs, "--out", out)
    assert (ended.code, ended.out) == (0, f"1 curve: {out}\n")
    assert "costs are null" in ended.err
    answered = ecgadvise("recommend", "--n-records", 700, "--arch", "cnn", "--curves", out, "--json")
    answer = json.loads(answered.out)
    jsonschema.validate(answer, SCHEMA)
    assert answer["gain"]["mean"] == pytest.approx(2 * (700**-0.5 - 1000**-0.5), abs=0.01)
    assert set(answer["cost"]["scratch"].values()) == {None}
    assert any("nothing of what they cost" in warning for warning in answer["warnings"])
    table = ecgadvise("recommend", "--n-records", 700, "--arch", "resnet1d18", "--curves", out)
    assert "unknown from scratch" in table.out
    assert len(table.out.splitlines()) <= 25


def test_two_sizes_are_answered_as_nearly_all_prior(ecgadvise, tmp_path: Path):
    runs, out = write_runs(tmp_path / "runs.csv", fine_tuned=False), tmp_path / "curves.json"
    lines = runs.read_text().splitlines()
    runs.write_text("\n".join([lines[0], *(line for line in lines if line.split(",")[4] in ("500", "1000"))]))
    ended = ecgadvise("curves", "fit", "--runs", runs, "--out", out)
    assert ended.code == 0
    said = "ward-0 our-net: scratch was measured at two sizes: the shape of its curve is nearly all prior"
    assert f"warning: {said}\n" in ended.err


def test_fitting_a_store_gives_what_collect_gives(ecgadvise, tmp_path: Path, synthetic_store):
    from studies.collection.collect import collect

    store = synthetic_store(tmp_path / "s.db", lambda n: 0.9 - 2 * n**-0.5, lambda n: 0.9 - 2 * (n + 300) ** -0.5)
    collected = collect(store, "s", tmp_path / "evidence")[1]
    store.close()
    ended = ecgadvise("curves", "fit", "--runs", tmp_path / "s.db", "--out", tmp_path / "curves.json")
    assert ended.out.endswith(f"curves: {tmp_path / 'curves.json'}\n"), ended
    assert (tmp_path / "curves.json").read_bytes() == collected.read_bytes()


def test_a_store_of_one_arm_is_fitted_as_one_of_both_and_is_no_evidence(ecgadvise, tmp_path: Path, synthetic_run):
    from studies.collection.collect import EvidenceError, collect
    from studies.runs.store import Store

    store, rng = Store(tmp_path / "s.db"), np.random.default_rng(4)
    for n in SIZES:
        for replicate in range(3):
            score = 0.9 - 2 * n**-0.5 + 0.005 * rng.normal()
            store.add(synthetic_run("gru-w32", "scratch", n, replicate, score), np.zeros((2, 5)))
    store.add(synthetic_run("gru-w32", "scratch", 4000, 0, 0.9 - 2 * 4000**-0.5), np.zeros((2, 5)))  # has no pair
    with pytest.raises(EvidenceError, match="both arms"):
        collect(store, "s", tmp_path)
    store.close()
    out = tmp_path / "curves.json"
    ended = ecgadvise("curves", "fit", "--runs", tmp_path / "s.db", "--out", out)
    assert (ended.code, ended.out) == (0, f"1 curve: {out}\n")
    assert "costs are null" not in ended.err
    document = json.loads(out.read_text())
    (curve,) = document["curves"]
    assert (document["study"], document["created"]) == ("s", "2026-11-22T20:00:00+00:00")
    assert (curve["upstream"], curve["sizes"], curve["runs"]) == ("none", [*SIZES, 4000], 16)
    assert set(curve["cost"]) == set(curve["points"]) == {"scratch"}
    assert curve["cost"]["scratch"]["device"] == "CPU test, 1 thread of 2"
    assert curve["provenance"]["test_records"] == 2158
    shown = json.loads(ecgadvise("curves", "show", "--curves", out, "--at", "500", "--json").out)
    assert shown["rows"][0]["mean"] == pytest.approx(0.9 - 2 * 500**-0.5, abs=0.02)


def test_scratch_alone_is_shown_and_not_recommended_from(ecgadvise, tmp_path: Path):
    runs, out = write_runs(tmp_path / "runs.csv", fine_tuned=False), tmp_path / "curves.json"
    assert ecgadvise("curves", "fit", "--runs", runs, "--out", out).code == 0
    shown = json.loads(ecgadvise("curves", "show", "--curves", out, "--at", "500,5000,500000", "--json").out)
    assert [(row["strategy"], row["n_records"], row["support"]) for row in shown["rows"]] == [
        ("scratch", 500, "measured"), ("scratch", 5000, "extrapolated"), ("scratch", 500_000, "beyond"),
    ]  # fmt: skip
    assert "from scratch only" in refused(
        ecgadvise("recommend", "--n-records", 500, "--arch", "our-net", "--curves", out), 4
    )
    assert ecgadvise("curves", "plot", "--curves", out, "--out", tmp_path / "x.png").code == 0


def test_rows_of_show_are_what_design_promises(ecgadvise, fitted: Path):
    document = json.loads(ecgadvise("curves", "show", "--curves", fitted, "--at", "300,70000", "--json").out)
    assert document["schema_version"] == 1
    names = {"task", "arch", "upstream", "precision", "strategy", "n_records", "mean", "mean_ci_lower", "mean_ci_upper",
             "obs_ci_lower", "obs_ci_upper", "support"}  # fmt: skip
    for row in document["rows"]:
        assert set(row) == names
        assert row["obs_ci_lower"] <= row["mean_ci_lower"] <= row["mean"] <= row["mean_ci_upper"] <= row["obs_ci_upper"]
    table = ecgadvise("curves", "show", "--curves", fitted, "--at", "300").out
    assert re.search(r"^ward-0 our-net\n  scratch +300 .*\n  fine-tune +300 ", table, flags=re.MULTILINE)


def test_two_curves_of_one_task_and_network_are_told_apart_by_their_upstream(ecgadvise, fitted: Path, tmp_path: Path):
    document = json.loads(fitted.read_text())
    one = document["curves"][0]
    document["curves"].insert(1, {**one, "upstream": "mimic"})
    (tmp_path / "curves.json").write_text(json.dumps(document))
    show = ("curves", "show", "--curves", tmp_path / "curves.json", "--at", "300")
    lines = ecgadvise(*show).out.splitlines()
    names = [line for line in lines if not line.startswith(" ")]
    assert names[:2] == [f"{one['task']} {one['arch']} from {upstream}" for upstream in (one["upstream"], "mimic")]
    assert len(set(names)) == len(names) == len(document["curves"])
    assert {row["upstream"] for row in json.loads(ecgadvise(*show, "--json").out)["rows"]} >= {"mimic"}


def test_the_table_of_the_shipped_curves_fits_a_terminal(ecgadvise):
    lines = ecgadvise("curves", "show", "--at", "100,8000").out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line for line in lines if not line.startswith(" ")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("ward", "net", "scratch", "", "100", "0", "nan"), "all auroc_macro are empty"),
        (("ward", "net", "scratch", "", "100", "0", "91"), "row 2: auroc_macro is 91, not between 0 and 1"),
        (("ward", "net", "scratch", "", "1.5", "0", "0.9"), "row 2: n_records is '1.5'"),
        (("ward", "net", "guess", "", "100", "0", "0.9"), "row 2: unknown strategy 'guess'"),
        (("ward", "net", "scratch", "", "100", "0", "0.9"), "gives no curve: ward net: "),
    ],
)
def test_bad_runs_end_in_one_sentence(row: tuple[str, ...], says: str, ecgadvise, tmp_path: Path):
    path = tmp_path / "runs.csv"
    path.write_text(",".join(HEADER) + "\n" + ",".join(row) + "\n")
    assert says in refused(ecgadvise("curves", "fit", "--runs", path, "--out", tmp_path / "c.json"), 3)
    assert not (tmp_path / "c.json").exists()


def test_curves_of_a_network_are_drawn_whatever_the_case_of_its_name(ecgadvise, fitted: Path, tmp_path: Path):
    for arch in ("our-net", "Our-Net"):
        ended = ecgadvise("curves", "plot", "--curves", fitted, "--arch", arch, "--out", tmp_path / f"{arch}.svg")
        assert ended.code == 0, ended.err


def test_what_cannot_be_written_or_found_is_named(ecgadvise, fitted: Path, tmp_path: Path):
    runs = fitted.with_name("runs.csv")
    refused(ecgadvise("curves", "fit", "--runs", tmp_path / "none.csv", "--out", tmp_path / "c.json"), 3)
    refused(ecgadvise("curves", "fit", "--runs", runs, "--out", runs / "c.json"), 1)
    refused(ecgadvise("curves", "fit", "--runs", runs, "--out", tmp_path / "c.json", "--metric", "f2"), 3)
    refused(ecgadvise("curves", "plot", "--curves", fitted, "--out", runs / "x.svg"), 1)
    refused(ecgadvise("curves", "plot", "--curves", tmp_path / "none.json", "--out", tmp_path / "x.svg"), 3)
    assert ".svg, .png, .html" in refused(ecgadvise("curves", "plot", "--out", tmp_path / "x.gif"), 2)
    assert "--margin" in refused(ecgadvise("curves", "plot", "--out", tmp_path / "x.svg", "--margin", "0"), 2)
    assert "the nearest is our-net" in refused(
        ecgadvise("curves", "plot", "--curves", fitted, "--out", tmp_path / "x.svg", "--arch", "or-net"), 2
    )


def test_an_svg_has_a_panel_for_every_curve_and_its_words(ecgadvise, fitted: Path, tmp_path: Path):
    one, other = tmp_path / "one.svg", tmp_path / "other.svg"
    assert ecgadvise("curves", "plot", "--curves", fitted, "--out", one).out == f"{one}\n"
    ecgadvise("curves", "plot", "--curves", fitted, "--out", other)
    assert one.read_bytes() == other.read_bytes()
    root = ElementTree.fromstring(one.read_text())
    words = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    for expected in ("ward-0 · our-net", "pre-trained on up, 40 runs", "break-even", "extrapolated", "log scale",
                     "from scratch: mean, single runs", "fine-tuned: mean, single runs", "1,000"):  # fmt: skip
        assert expected in words
    assert len([group for group in root.iter(f"{SVG}g") if group.get("id", "").startswith("axes_")]) == 1


def test_a_long_title_is_broken_not_cut(tmp_path: Path, fitted: Path):
    from dataclasses import replace

    from advisor.text.curve_figure import to_bytes
    from studies.files.curves import read_curves

    curve = read_curves(fitted).curves[0]
    name = " ".join(f"word{k}" for k in range(9))
    long = replace(curve, task=name, upstream="one-long-name-" * 20)
    svg = to_bytes([long], ".svg", 0.01, "x").decode()
    words = " ".join("".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text"))
    assert f"{name} · our-net" in " ".join(words.split())
    assert "one-long-name-one" in words and "…" in words, "what takes more than two lines loses its middle"


def test_the_asker_s_number_is_marked_and_measured_sizes_are_the_ticks(command, tmp_path: Path, fitted: Path):
    path = tmp_path / "x.svg"
    asked = "recommend", "--n-records", 700, "--arch", "our-net", "--curves", fitted
    code, out, err = command(*asked, "--plot", path)
    assert (code, err) == (0, f"plot: {path}\n")
    assert out == command(*asked)[1]
    found = ["".join(text.itertext()) for text in ElementTree.fromstring(path.read_text()).iter(f"{SVG}text")]
    assert "yours: 700 records" in found
    assert {"100", "250", "500", "1,000", "2,000", "5,000"} <= {*found}


def test_a_png_is_an_image_of_its_panels(ecgadvise, fitted: Path, tmp_path: Path):
    path = tmp_path / "x.png"
    assert ecgadvise("curves", "plot", "--curves", fitted, "--out", path, "--task", "ward-0").code == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(content[16:20], "big") > 600 and int.from_bytes(content[20:24], "big") > 400


def test_a_page_asks_for_nothing_from_the_network(ecgadvise, fitted: Path, tmp_path: Path):
    path = tmp_path / "x.html"
    assert ecgadvise("curves", "plot", "--curves", fitted, "--out", path).code == 0
    page = path.read_text()
    assert page.startswith("<!DOCTYPE html>") and page.count("<svg") == page.count("</svg>") == 1
    assert not re.search(r"https?:|//\w|<script|<link|<img|@import|url\((?!#)", page)
    assert "our-net" in page and "break-even" in page


def test_backtest_gives_a_number_for_every_policy_and_band(ecgadvise, tmp_path: Path):
    runs = write_runs(tmp_path / "runs.csv", tasks=3, replicates=3)
    ended = ecgadvise("backtest", "--runs", runs, "--json")
    assert (ended.code, ended.err) == (0, "")
    document = json.loads(ended.out)
    assert document["schema_version"] == 1
    assert document["regret"].pop("keep_on_validation") is None, "the table has no validation scores"
    assert set(document["regret"]) == {"advice", "always_fine_tune", "always_scratch", "below_5000", "last_value"}
    assert all(0 <= value < 0.2 for value in document["regret"].values())
    assert set(document["coverage"]) == {"scratch", "fine_tune", "gain", "scratch_run", "fine_tune_run"}
    assert all(0 <= value <= 1 for value in document["coverage"].values())
    assert document["regret"]["advice"] < document["regret"]["always_scratch"]
    assert document["tasks"] == ["ward-0", "ward-1", "ward-2"]
    assert {name: card["cells"] for name, card in document["by_scheme"].items()} == {
        "largest": 3, "two_largest": 6, "task": 15,
    }  # fmt: skip
    assert (document["cells"], document["distinct_cells"], document["from_500"]["distinct_cells"]) == (24, 15, 9)
    for name in ("scratch", "fine_tune", "gain"):
        assert document["crps"][name] > 0 and document["log_score"][name] > 0
    assert 0 <= document["floor"] < document["regret"]["always_scratch"]
    assert set(document["above_floor"]) == {*document["regret"], "keep_on_validation"}
    assert any("no curves file at" in warning for warning in document["warnings"])
    table = ecgadvise("backtest", "--runs", runs).out
    assert max(map(len, table.splitlines())) <= 80
    assert f"{document['regret']['advice']:.4f}" in table


def test_backtest_refuses_what_it_cannot_hold_out(ecgadvise, tmp_path: Path):
    runs = write_runs(tmp_path / "runs.csv", replicates=1)
    assert "nothing that can be held out" in refused(ecgadvise("backtest", "--runs", runs), 4)
    refused(ecgadvise("backtest", "--runs", tmp_path / "none.csv"), 3)
    assert "--margin" in refused(ecgadvise("backtest", "--margin", "2"), 2)


def test_backtest_of_the_shipped_evidence(ecgadvise):
    document = json.loads(ecgadvise("backtest", "--json").out)
    assert "ptb-xl/superclass" in document["tasks"]
    assert all(isinstance(value, float) for value in [*document["regret"].values(), *document["coverage"].values()])
