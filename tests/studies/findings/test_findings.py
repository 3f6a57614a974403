"""FINDINGS.md from made stores whose truth is known, and the one that ships against the evidence that ships."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from studies.files.backtest import check_backtest
from studies.files.shipped import EVIDENCE
from studies.findings.findings import FindingsError, make_findings, read_material, shipped_stores, write_findings
from studies.findings.protocol import optimism_effects
from studies.findings.published import PUBLISHED, PublishedError, read_published
from studies.findings.published_section import interval_by_patient
from studies.runs.run import Run
from studies.runs.store import Store
from studies.runs.store_files import name_of, name_stores

SHIPPED = EVIDENCE.parent / "FINDINGS.md"
SIZES = (100, 250, 500, 1000, 2000)
ARCHS = {"resnet1d18-w16": "cnn", "gru-w32": "rnn"}
Gain = Callable[[str, int], float]


@pytest.fixture
def fill(synthetic_run, tmp_path: Path) -> Callable[..., Path]:
    """Write a store of paired runs on several tasks, whose true gain is known."""

    def write(gain: Gain, n_tasks: int = 4, pairs: int = 4, sd: float = 0.004, more: tuple[Run, ...] = ()) -> Path:
        rng = np.random.default_rng(3)
        folder = tmp_path / "made"
        folder.mkdir()
        store = Store(folder / "study.db")
        for arch in ARCHS:
            for task in range(n_tasks):
                for n in SIZES:
                    for replicate in range(pairs):
                        shared, own = rng.normal(0, sd, 2)
                        scores = {"scratch": 0.75 + shared, "fine-tune": 0.75 + shared + own + gain(arch, n)}
                        for arm, score in scores.items():
                            run = synthetic_run(arch, arm, n, replicate, score)
                            details = {**run.details, "validations": course(arm)}
                            run = replace(run, task=f"ptb-xl/t{task}", key=f"{run.key}-{task}", details=details)
                            store.add(run, np.zeros((2, 5)))
        for run in more:
            store.add(run, np.zeros((2, 5)))
        store.close()
        return folder / "study.db"

    return write


def course(arm: str) -> list[dict[str, float]]:
    """Fine-tuning is at 0.8 after half the records that scratch sees until then."""
    reached = 1000 if arm == "fine-tune" else 2000
    return [{"records_seen": reached, "auroc": 0.8}, {"records_seen": 4000, "auroc": 0.79}]


def variant(run: Run, **columns: object) -> Run:
    changed = replace(run, **columns)
    return replace(changed, key="-".join(map(str, (changed.key, changed.task, changed.recipe, changed.strategy))))


def verdicts(text: str) -> dict[tuple[str, str], str]:
    found = re.findall(r"^\| (\d[\w ]*): [^|]*\| ([^|]+) \| \*\*(\w+)\*\*", text, re.M)
    return {(claim, scope): verdict for claim, scope, verdict in found}


def test_a_planted_effect_is_confirmed(fill):
    found = make_findings([fill(lambda arch, n: (9.0 if arch == "resnet1d18-w16" else 5.0) / n)])
    judged = verdicts(found.text)
    assert judged.pop(("4 flatten head", "cnn - rnn")) == "open"
    assert set(judged.values()) == {"confirmed"}, judged
    assert set(judged) == {
        *((claim, family) for claim in ("1", "2 decline", "2 comparable", "3") for family in ("cnn", "rnn")),
        ("4 pooled head", "cnn - rnn"),
    }
    assert "- **refuted**: none" in found.text
    row = next(line for line in found.text.splitlines() if line.startswith("| cnn | 100 |"))
    assert abs(float(re.findall(r"[+-]0\.\d{3}", row)[0]) - 0.09) < 0.003
    assert row.endswith("| 16 | 4 |")


def test_a_planted_opposite_is_refuted(fill):
    gain: Gain = lambda arch, n: -0.04 + 0.012 * np.log2(n / 100) + (0.02 if arch == "gru-w32" else 0)  # noqa: E731
    judged = verdicts(make_findings([fill(gain)]).text)
    for family in ("cnn", "rnn"):
        assert judged["1", family] == "refuted"
        assert judged["2 decline", family] == "refuted"
    assert judged["4 pooled head", "cnn - rnn"] == "refuted"


@pytest.mark.parametrize(("n_tasks", "pairs"), [(1, 4), (4, 1)])
def test_one_task_or_single_pairs_leave_the_claims_of_the_score_open(n_tasks: int, pairs: int, fill):
    judged = verdicts(make_findings([fill(lambda arch, n: 9.0 / n, n_tasks, pairs)]).text)
    assert {verdict for (claim, _), verdict in judged.items() if claim != "2 decline"} == {"open"} or n_tasks > 1
    assert judged["1", "cnn"] == judged["4 pooled head", "cnn - rnn"] == "open"


def test_a_replicate_on_test_folds_of_its_own_is_one_more_and_said_to_be(fill, synthetic_run):
    more = []
    for arm, score in (("scratch", 0.7), ("fine-tune", 0.75)):
        run = synthetic_run("resnet1d18-w16", arm, 100, 0, score)
        details = {**run.details, "spec": {**run.details["spec"], "test_folds": [1]}}
        more.append(replace(variant(run, task="ptb-xl/t0"), details=details))
    path = fill(lambda arch, n: 5.0 / n, pairs=2, more=tuple(more))
    assert len(read_material([path]).pairs) == 4 * 5 * 2 * 2 + 1
    assert (
        "Replicates have test folds of their own in ptb-xl; the runs of a pair share theirs."
        in make_findings([path]).text
    )


def test_sections_without_runs_say_so_in_one_line(fill):
    text = make_findings([fill(lambda arch, n: 0.0, pairs=2)]).text
    for title in ("### The best epoch on the test set", "### Patients on two sides", "## Control arms"):
        assert re.search(rf"^{title}\n\nOpen: not run: [^\n]+\n(\n|\Z)", text, re.M), title
    assert "## Is the advice any good?\n\nOpen: not run.\n" in text
    assert "- The control arm `frozen`." in text
    assert "- The recipe `paper`" in text


def test_what_the_test_maximum_adds_and_what_the_controls_score_is_said(fill, synthetic_run):
    more = []
    for replicate in range(4):
        for arm, optimism, other in (("scratch", 0.03, "random-frozen"), ("fine-tune", 0.01, "frozen")):
            run = synthetic_run("resnet1d18-w16", arm, 500, replicate, 0.75)
            seen = {"auroc_maximum": 0.75 + optimism + 0.002 * replicate, "auroc_chosen": 0.75,
                    "f1_weighted_maximum": 0.6, "f1_weighted_chosen": 0.5}  # fmt: skip
            looked = variant(run, task="ptb-xl/t0", recipe="paper", auroc_macro=0.65)
            more += [
                replace(looked, details={**looked.details, "test_maximum": seen}),
                variant(run, task="ptb-xl/t0", strategy=other, auroc_macro=0.70 + 0.001 * replicate),
            ]
    text = make_findings([fill(lambda arch, n: 0.0, more=tuple(more), sd=1e-4)]).text
    words = "test maximum minus validation's choice, macro AUROC"
    assert f"| {words} | resnet1d18-w16, scratch | +0.033 (" in text
    assert f"| {words} | resnet1d18-w16, fine-tune | +0.013 (" in text
    assert "| gain in macro AUROC at each arm's test maximum | resnet1d18-w16, recipe paper | -0.020 (" in text
    assert "| gain in macro AUROC at validation's choice | resnet1d18-w16, recipe paper | +0.000 (" in text
    assert "| macro AUROC, recipe tuned minus paper | resnet1d18-w16, scratch | +0.100 (" in text
    for name in ("frozen minus from scratch", "random-frozen minus from scratch"):
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} | resnet1d18-w16, 500 records"))
        assert abs(float(re.findall(r"[+-]0\.\d{3}", row)[0]) + 0.0485) < 0.001
    assert verdicts(text)["2 comparable", "cnn"] == "confirmed"  # none of these runs is in a pair


def test_gains_at_the_test_maximum_count_every_upstream_of_a_task(synthetic_run):
    runs = []
    for replicate in range(3):
        for arm, upstream, maximum in (
            ("scratch", None, 0.7),
            ("fine-tune", "a/all", 0.8),
            ("fine-tune", "b/all", 0.9),
        ):
            run = variant(synthetic_run("resnet1d18-w16", arm, 500, replicate, 0.7), upstream=upstream, recipe="paper")
            seen = {f"{score}_{kind}": maximum for score in ("auroc", "f1_weighted") for kind in ("maximum", "chosen")}
            runs.append(replace(run, details={**run.details, "test_maximum": seen}))
    gains = [one.found for one in optimism_effects(runs) if one.name.startswith("gain")]
    assert [(gain.n_pairs, round(gain.effect, 6)) for gain in gains] == [(6, 0.15), (6, 0.15)]


def test_a_heads_difference_is_that_of_the_gains(fill, synthetic_run):
    more = []
    for n in (100, 500):
        for replicate in range(4):
            for arm, score in (("scratch", 0.75), ("fine-tune", 0.70)):
                run = synthetic_run("gru-w32", arm, n, replicate, score)
                more.append(variant(run, task="ptb-xl/t1", arch="gru-flatten-w32", key=f"flat-{run.key}"))
    text = make_findings([fill(lambda arch, n: 0.02, more=tuple(more), sd=1e-4)]).text
    assert "| gain with a pooled head minus gain with a flatten head | gru-w32, gru-flatten-w32 | +0.070 (" in text
    assert ("1", "rnn, flatten head") in verdicts(text)


@pytest.mark.parametrize(("n_tasks", "said"), [(1, True), (2, False)])
def test_tasks_are_missing_where_they_are_fewer_than_a_claim_needs(n_tasks: int, said: bool, fill):
    text = make_findings([fill(lambda arch, n: 5.0 / n, n_tasks, pairs=2)]).text
    assert ("- Tasks of rnn networks: 1 so far, and claims about them need 2." in text) is said
    assert ("Tasks of rnn networks" in text) is said


def test_what_is_missing_of_a_store_without_pairs_is_pairs(synthetic_run, tmp_path: Path):
    store = Store(tmp_path / "alone.db")
    store.add(synthetic_run("resnet1d18-w16", "scratch", 500, 0, 0.8), np.zeros((2, 5)))
    store.close()
    text = make_findings([store.path]).text
    missing = text[text.index("## What is missing") :].splitlines()[2:]
    assert len(missing) == 1
    assert missing[0].startswith("- Pairs of runs, one from scratch and one fine-tuned")


def test_published_scores_stand_beside_runs_of_the_same_task_arm_family_and_size(fill, synthetic_run, tmp_path: Path):
    whole = synthetic_run("resnet1d18-w16", "scratch", 19230, 0, 0.91)
    whole = variant(whole, epochs=10, records_seen=171_000)
    text = make_findings([fill(lambda arch, n: 0.01, more=(whole,))]).text
    section = text[text.index("## Compared with published numbers") : text.index("## What was measured")]
    row = next(line for line in section.splitlines() if "resnet1d_wang" in line)
    assert re.search(
        r"0\.930 \(0\.925 to 0\.935\) \| `resnet1d18-w16`, a narrow network, 0\.910 \(.*\) on 17,100, recipe tuned \|$",
        row,
    )
    assert "lstm" not in section  # no recurrent network of ours has as many records
    assert re.search(r"^Not comparable, and why: \d+, no run of their task;", section, re.M)
    assert re.search(
        r"^\| sami-trop \| 1,467 \| 0.825 to 0.840 \| 0.740 to 0.791 \| -0.074 \| 0 of 3 \| \+0.0", section, re.M
    )
    assert "no number of theirs is given" in section


def test_every_published_fact_has_its_source_and_a_possible_value():
    scores = read_published()
    with PUBLISHED.open() as file:
        assert len(scores) == len(list(csv.DictReader(file)))
    for score in scores:
        assert score.source
        assert 0 < score.value < 1
        inside = score.interval is None or score.interval[0] <= score.value <= score.interval[1]
        assert inside or "the point lies outside it" in score.note
    assert len({(score.source, score.task, score.n_train, score.method, score.metric) for score in scores}) == len(
        scores
    )


def test_the_same_stores_give_the_same_bytes_without_a_date_in_the_figures(fill, tmp_path: Path):
    path = fill(lambda arch, n: 5.0 / n)
    one, other = make_findings([path]), make_findings([path])
    assert one == other
    written = write_findings(one, tmp_path / "out" / "FINDINGS.md")
    assert [file.name for file in written] == ["FINDINGS.md", "gains.svg", "tasks.svg"]
    for name, svg in one.figures.items():
        assert f"(findings/{name})" in one.text
        assert "<dc:date>" not in svg
        assert len(svg) < 100_000


def test_a_backtest_beside_the_store_is_reported(fill):
    path = fill(lambda arch, n: 5.0 / n, pairs=2)
    shipped = json.loads(next(EVIDENCE.glob("*/backtest.json")).read_text())
    shipped["regret"] |= {"advice": 0.001, "always_fine_tune": 0.002, "always_scratch": 0.001, "below_5000": 0.0}
    shipped["advice_minus_ci"] |= {
        "always_fine_tune": [-0.002, -0.0001], "always_scratch": [-0.001, 0.001], "below_5000": [0.0001, 0.002],
    }  # fmt: skip
    path.with_name("backtest.json").write_text(json.dumps(shipped))
    text = make_findings([path]).text
    assert "loses 0.0010 to the better arm on average. That is lower than that of always fine-tuning" in text
    assert "not to be told from that of always from scratch" in text
    assert "higher than that of fine-tuning below 5,000" in text
    shipped["regret"]["a_rule_of_another_version"] = 0.5
    path.with_name("backtest.json").write_text(json.dumps(shipped))
    assert "0.5000" not in make_findings([path]).text


def newer(document: dict) -> dict:
    """Add to a backtest what this version says of it, whatever the shipped one has."""
    policies = dict.fromkeys(document["regret"], 0.001)
    figures = dict.fromkeys(("scratch", "fine_tune", "gain"), 0.02)
    card = {
        "distinct_cells": 7, "floor": 0.0015, "above_floor": policies, "advice_minus": policies, "bounded": 0.25,
        "above_floor_ci": {"advice": [-0.0007, 0.0043]}, "above_floor_ci_sites": {"advice": None},
        "advice_minus_ci": {"always_fine_tune": [-0.0004, 0.0009]}, "regret_ci_sites": {"advice": None},
        "beyond": 0.07, "beyond_expected": 0.16, "beyond_true": 0.08, "crps": figures, "log_score": figures,
        "coverage_se": figures, "from_500": dict.fromkeys(("coverage", "width", "crps"), figures),
    }  # fmt: skip
    schemes = {name: {**one, **card} for name, one in document["by_scheme"].items()}
    return json.loads(json.dumps({**document, **card, "by_scheme": schemes}))


def test_what_noise_makes_of_a_regret_is_reported_next_to_it(fill):
    path = fill(lambda arch, n: 5.0 / n, pairs=2)
    shipped = json.loads(next(EVIDENCE.glob("*/backtest.json")).read_text())
    path.with_name("backtest.json").write_text(json.dumps(newer(shipped)))
    text = make_findings([path]).text
    assert "7 of them were measured apart; one that several schemes predict counts once" in text
    assert "would be charged 0.0015 in these cells" in text
    assert "lies 0.0010 above that (90 %, over tasks -0.0007 to 0.0043)" in text
    assert "less always fine-tuning: +0.0010 (90 % over tasks -0.0004 to 0.0009)" in text
    assert "is at most 0.01 in 25%; the measured loss was beyond it in 7% (with the noise of the runs 16%" in text
    assert "| gain: CRPS | 0.0200 |" in text and "| 500 records or more, gain: width | 0.020 |" in text


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.update(floor="0.1"),
        lambda document: document["above_floor_ci"].update(advice=[0.1]),
        lambda document: document.pop("coverage_se"),
        lambda document: document["by_scheme"]["task"]["crps"].pop("gain"),
        lambda document: document["from_500"]["width"].update(gain=float("nan")),
    ],
)
def test_newer_figures_of_a_backtest_are_checked_too(spoil: Callable[[dict], object]):
    document = newer(json.loads(next(EVIDENCE.glob("*/backtest.json")).read_text()))
    check_backtest(document)
    spoil(document)
    with pytest.raises(ValueError, match=r"it lacks|is not a figure|two ends"):
        check_backtest(document)


def without(*names: str) -> Callable[[dict], None]:
    """Take a part out of a document."""

    def take_out(document: dict) -> None:
        for name in names[:-1]:
            document = document[name]
        del document[names[-1]]

    return take_out


@pytest.mark.parametrize(
    "spoil",
    [
        dict.clear,
        *(without(name) for name in ("tasks", "cells", "regret", "coverage", "abstention", "brier", "width")),
        *(without(*names) for names in (("regret", "advice"), ("brier", "base_rate"), ("by_scheme", "task", "cells"))),
        *(
            lambda document, name=name, value=value: document.update({name: value})
            for name, value in (("tasks", None), ("cells", "90"), ("regret", []), ("abstention", float("nan")),
                                ("width", {"gain": "wide"}), ("regret_ci", {"advice": [None, 1]}), ("cells", 10**400),
                                ("regret_ci", {"advice": [0.1]}), ("by_scheme", None))
        ),
    ],
)  # fmt: skip
def test_a_backtest_that_lacks_what_is_shown_of_it_is_refused(spoil: Callable[[dict], None]):
    document = json.loads(next(EVIDENCE.glob("*/backtest.json")).read_text())
    check_backtest(document)
    spoil(document)
    with pytest.raises(ValueError, match=r"it lacks|is not a figure|two ends|not what they should be"):
        check_backtest(document)


@pytest.mark.parametrize(("content", "says"), [("{}", "it lacks"), ("[]", "not what"), ("{", "cannot be read")])
def test_a_backtest_beside_a_store_that_cannot_be_used_is_named(content: str, says: str, fill):
    path = fill(lambda arch, n: 5.0 / n, n_tasks=1, pairs=2)
    path.with_name("backtest.json").write_text(content)
    with pytest.raises(FindingsError, match=f"backtest.json .*{says}"):
        read_material([path])


def test_what_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(FindingsError, match="no study store at"):
        make_findings([tmp_path / "none.db"])
    with pytest.raises(FindingsError, match="no study store ships"):
        make_findings([])
    Store(tmp_path / "empty.db").close()
    with pytest.raises(FindingsError, match="holds no run yet"):
        make_findings([tmp_path / "empty.db"])
    header, row = PUBLISHED.read_text(encoding="utf-8").splitlines()[:2]
    cells = dict(zip(header.split(","), next(csv.reader([row])), strict=True))
    for name, content in (
        ("wrong.csv", "a,b\n1,2\n"),
        ("short.csv", f"{header}\nsomebody\n"),
        ("zero.csv", f"{header}\n" + ",".join(f'"{value}"' for value in {**cells, "n_train": "0"}.values())),
        ("endless.csv", f"{header}\n" + "x" * 200_000),
    ):
        (tmp_path / name).write_text(content)
    wrong = ((f"{name}.csv", "is not a table of published scores") for name in ("wrong", "short", "zero", "endless"))
    for name, says in (("none.csv", "cannot read"), *wrong):
        with pytest.raises(PublishedError, match=says):
            read_published(tmp_path / name)


def test_stores_are_called_what_tells_them_apart():
    assert name_of(Path("evidence/ptbxl-cpu/study.db")) == "ptbxl-cpu"
    assert name_of(Path("sites.db")) == "sites"


def test_stores_that_are_called_the_same_are_told_apart_and_one_given_twice_is_one():
    one, other = Path("/here/a/study.db"), Path("/there/a/study.db")
    assert name_stores([one, other, one, Path("sites.db")]) == {
        "here/a/study.db": one,
        "there/a/study.db": other,
        "sites": Path("sites.db"),
    }
    assert name_stores([Path("/a/s.db"), Path("/b/s.db")]) == {"a/s.db": Path("/a/s.db"), "b/s.db": Path("/b/s.db")}
    assert list(name_stores([Path("/s.db"), Path("/x/s.db")])) == ["/s.db", "x/s.db"]


def test_stores_of_one_name_keep_their_runs_and_their_backtests_and_a_run_of_both_counts_once(
    fill, synthetic_run, tmp_path: Path
):
    one = fill(lambda arch, n: 5.0 / n, pairs=2)
    other = tmp_path / "elsewhere" / "made" / "study.db"
    other.parent.mkdir(parents=True)
    with_more = Store(other)
    for run in Store(one).runs():
        with_more.add(run, np.zeros((2, 5)))
    with_more.add(variant(synthetic_run("gru-w32", "scratch", 4000, 0, 0.8), task="ptb-xl/more"), np.zeros((2, 5)))
    with_more.close()
    shipped = json.loads(next(EVIDENCE.glob("*/backtest.json")).read_text())
    for path, cells in ((one, 11), (other, 22)):
        path.with_name("backtest.json").write_text(json.dumps({**shipped, "cells": cells}))
    alone, both = read_material([one]), read_material([one, other])
    assert len(both.records) == len(alone.records) + 1
    assert len(both.pairs) == len(alone.pairs)
    assert sorted(len(runs) for runs in both.stores.values()) == [len(alone.records), len(alone.records) + 1]
    text = make_findings([one, other]).text
    for name, cells in ((f"{tmp_path.name}/made/study.db", 11), ("elsewhere/made/study.db", 22)):
        assert f"`{name}`: {cells} held-out cells" in text
        assert f"| `{name}` | " in text


def test_the_table_beside_a_store_that_ships_says_what_its_runs_scored():
    folder = EVIDENCE.parent / "stores" / "ptbxl-full"
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|", (folder / "README.md").read_text(), re.M
    )
    made = []
    for run in Store(folder / "study.db", create=False).runs():
        low, high = interval_by_patient(run) or (0, 0)
        rate = run.training_recipe.learning_rate
        made.append((run.arch, f"{rate:g}", *(f"{value:.3f}" for value in (run.auroc_macro, low, high))))
    assert sorted(rows) == sorted(made)


def test_the_findings_that_ship_are_what_the_command_makes_of_what_ships():
    found = make_findings(shipped_stores())
    assert found.text == SHIPPED.read_text(encoding="utf-8"), (
        "write them anew: ecgadvise study findings --out studies/FINDINGS.md"
    )
    folder = SHIPPED.with_name("findings")
    assert {path.name for path in folder.glob("*.svg")} == found.figures.keys()
    for name, svg in found.figures.items():  # another matplotlib may place a label elsewhere
        made, there = (re.findall(r">([^<>]+)</text>", text) for text in (svg, (folder / name).read_text()))
        assert made == there
