"""The best of all measured arms: its probability, its expected loss, its price, and what is said of it."""

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import ecgadvise
from advisor.answer.recommend import Question, recommend
from advisor.answer.strategy import choose_strategy
from advisor.text.answer_json import to_json
from advisor.text.explanation import explain
from advisor.text.explanation_text import to_text
from advisor.text.table import LINES, SCREEN, to_table
from studies.files.curve import Curve, PilotCurve, PooledCurve, TrainingCost
from studies.files.curves import CurvesFile, read_curves

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "advisor" / "recommendation.schema.json").read_text())
CNN = "resnet1d18-w16"
ARMS = {"scratch", "fine-tune", "linear-probe", "random-convolutions"}


@pytest.fixture(scope="module")
def curves(four_arms_path: Path) -> CurvesFile:
    """A linear probe is best with few records, random convolutions are with 1,200 and more."""
    return read_curves(four_arms_path)


def level(curves: CurvesFile, **draws: np.ndarray) -> CurvesFile:
    """The curve of the convolutional network with these scores in its draws, by field, at every number of records."""
    curve = next(curve for curve in curves.curves if curve.arch == CNN)
    flat = {
        arm.replace("_", "-"): {"a": np.asarray(a, float), "b": np.zeros(len(a)), "c": np.ones(len(a))}
        for arm, a in draws.items()
    }
    return replace(curves, curves=(replace(curve, draws=flat),))


def ask(curves: CurvesFile, n_records: int = 500, **asked: object):
    return recommend(Question(n_records, CNN, **asked), curves)


@pytest.mark.parametrize("n_records", [100, 500, 2000, 6000])
def test_every_figure_of_an_arm_is_that_of_the_draws(curves: CurvesFile, n_records: int):
    answer = ask(curves, n_records)
    scores = {arm: answer.curve.scores(arm, n_records)[:, 0] for arm in answer.curve.draws}
    assert set(scores) == ARMS == {one.strategy for one in answer.arms}
    highest = np.max(list(scores.values()), axis=0)
    means = [one.score.mean for one in answer.arms]
    assert means == sorted(means, reverse=True) and answer.best is answer.arms[0]
    for one in answer.arms:
        drawn = scores[one.strategy]
        assert one.score.mean == pytest.approx(drawn.mean())
        assert one.p_best == pytest.approx((drawn == highest).mean(), abs=0.01)
        assert one.expected_loss.mean == pytest.approx((highest - drawn).mean())
        assert (highest - drawn <= one.expected_loss.upper).mean() >= 0.9
        assert (highest - drawn < one.expected_loss.upper).mean() <= 0.9
        if one.difference is not None:
            assert one.difference.mean == pytest.approx((drawn - scores["scratch"]).mean())
    assert sum(one.p_best for one in answer.arms) == pytest.approx(1)
    assert next(one for one in answer.arms if one.strategy == "scratch").difference is None


def test_the_truly_best_arm_is_named(curves: CurvesFile):
    assert ask(curves, 100).best.strategy == "linear-probe"
    assert ask(curves, 2000).best.strategy == "random-convolutions"
    for n_records, p_best in ((100, 0.9), (2000, 0.9)):
        assert ask(curves, n_records).best.p_best > p_best


def test_draws_in_which_arms_are_level_count_for_each_in_part(curves: CurvesFile):
    up = np.array([0.8] * 30 + [0.9] * 10)
    answer = ask(level(curves, scratch=np.full(40, 0.8), fine_tune=np.full(40, 0.8), linear_probe=up))
    assert {one.strategy: one.p_best for one in answer.arms} == pytest.approx(
        {"linear-probe": 0.5, "scratch": 0.25, "fine-tune": 0.25}
    )
    scratch = next(one for one in answer.arms if one.strategy == "scratch")
    assert (scratch.expected_loss.mean, scratch.expected_loss.upper) == pytest.approx((0.025, 0.1))
    assert [one.strategy for one in answer.arms] == ["linear-probe", "scratch", "fine-tune"], "of equals the cheaper"


def test_of_arms_that_draws_cannot_tell_apart_the_simpler_is_named_and_said_to_be_that(curves: CurvesFile):
    tuned = np.array([0.8, 0.9] * 20)
    near = tuned + np.array([0.03, -0.0304] * 20)
    answer = ask(level(curves, scratch=np.full(40, 0.7), fine_tune=tuned, linear_probe=near))
    assert answer.best.strategy == "linear-probe"
    assert answer.best.score.mean < max(one.score.mean for one in answer.arms)
    text = " ".join(to_table(answer).split())
    assert "With 500 records train a linear probe: level with fine-tuned and simpler. Probability" in text
    answer = ask(level(curves, scratch=np.full(40, 0.7), fine_tune=tuned, linear_probe=near - 0.02))
    assert "With 500 records fine-tune: the best expected score of 3 arms." in " ".join(to_table(answer).split())


def test_the_verdict_on_the_two_arms_does_not_know_the_others(curves: CurvesFile, curves_path: Path):
    two = read_curves(curves_path)
    for n_records in (100, 700, 5000):
        with_all, alone = ask(curves, n_records), ask(two, n_records)
        assert {one.strategy for one in alone.arms} == {"scratch", "fine-tune"}
        assert with_all.verdict == alone.verdict
        assert with_all.gain.mean == pytest.approx(alone.gain.mean, abs=0.003)  # of fewer draws


def test_a_pilot_is_offered_at_half_the_records_where_it_can_win_something(curves: CurvesFile):
    """In half of the draws fine-tuning is .06 above scratch, in the other half .04 below."""
    measured = level(curves, scratch=np.full(40, 0.84), fine_tune=np.array([0.8] * 20 + [0.9] * 20))
    assert ask(measured).pilot_value is None, "a task that was measured is no other dataset"
    (curve,) = measured.curves
    shared = {one.name: getattr(curve, one.name) for one in fields(Curve)}
    pool = replace(measured, curves=(PooledCurve(**shared, tasks=("a", "b")),))
    offered = ask(pool).pilot_value
    assert (offered.at_most, offered.n_records, offered.pairs) == (pytest.approx(0.02), 250, 2)
    assert offered.seconds == 2 * sum(ask(pool, 250).cost[arm].seconds for arm in ("scratch", "fine_tune"))
    assert "a pilot        of 2 pairs at 250 records" in to_table(ask(pool))
    assert ask(pool, margin=0.07).pilot_value is None, "less than a third of what matters"


@pytest.fixture
def piloted(curves: CurvesFile) -> Callable[..., CurvesFile]:
    """The function that returns the curve of a pilot of 2 pairs at 40, 120 and 360 records on a device, level as above.

    In half of the draws fine-tuning is .06 above scratch, in the other half .04 below.
    """
    measured = level(curves, scratch=np.full(40, 0.84), fine_tune=np.array([0.8] * 20 + [0.9] * 20))
    (curve,) = measured.curves
    shared = {one.name: getattr(curve, one.name) for one in fields(Curve)}
    ran = {arm: dict.fromkeys((40, 120, 360), (0.8, 0.82)) for arm in ("scratch", "fine-tune")}

    def after_pilot(device: str) -> CurvesFile:
        own = PilotCurve(**shared | {"points": ran, "devices": (device,), "replicates": 2}, predicted_by=None)
        return replace(measured, curves=(own,))

    return after_pilot


def test_after_a_pilot_an_open_question_says_how_many_more_pairs_and_what_they_can_win(piloted):
    after = piloted("CPU test, 1 thread of 2")
    answer = ask(after)
    more = answer.pilot_value
    assert (more.at_most, more.sizes, more.n_records, more.pairs) == (pytest.approx(0.02), (40, 120, 360), 360, 2)
    arms = ("scratch", "fine_tune")
    assert more.seconds == pytest.approx(2 * sum(ask(after, n).cost[arm].seconds for n in more.sizes for arm in arms))
    assert answer.verdict == "not-enough-evidence"
    assert answer.why.endswith("; 2 more pairs at each of 40, 120 and 360 records would help to decide.")
    assert "paired runs" not in answer.why
    said = " ".join(to_table(answer).split())
    assert re.search(r"more pairs 2 at each of 40, 120 and 360 records \(\d+ s\) can win at most 0\.020", said)
    document = json.loads(to_json(answer))
    jsonschema.validate(document, SCHEMA)
    assert document["pilot_value"]["sizes"] == [40, 120, 360]


def test_how_long_more_pairs_take_is_not_said_of_another_device_than_the_pilots(piloted):
    elsewhere = piloted("GPU elsewhere")
    assert ask(elsewhere).cost["scratch"].seconds is not None
    assert ask(elsewhere).pilot_value.seconds is None
    at_own_speed = ask(elsewhere, device_speed=100.0)
    assert at_own_speed.pilot_value.seconds == pytest.approx(
        2 * sum(ask(elsewhere, n, device_speed=100.0).cost[arm].your_seconds
                for n in (40, 120, 360) for arm in ("scratch", "fine_tune"))
    )  # fmt: skip


def test_after_a_pilot_more_of_it_is_not_advised_where_it_can_win_next_to_nothing(piloted):
    """Random convolutions are above both arms in every draw: nothing is left to win, whichever of the two is ahead."""
    after = piloted("CPU test, 1 thread of 2")
    (own,) = after.curves
    flat = {"a": np.full(40, 0.99), "b": np.zeros(40), "c": np.ones(40)}
    answer = ask(replace(after, curves=(replace(own, draws={**own.draws, "random-convolutions": flat}),)))
    assert (answer.verdict, answer.pilot_value) == ("not-enough-evidence", None)
    assert answer.why.endswith("; more pairs of the pilot can win at most 0.000 by a better choice of arm.")


def test_target_more_labels_and_networks_take_all_arms(curves: CurvesFile):
    answer = recommend(Question(150, target=0.88), curves)
    assert answer.target is not None and answer.more_records is not None
    assert set(answer.target) == {"scratch", "fine_tune", "linear_probe", "random_convolutions"}
    needed = {name: reach.records for name, reach in answer.target.items()}
    assert needed["linear_probe"] < needed["random_convolutions"] < needed["scratch"]
    assert answer.more_records.arm == "linear_probe"
    assert [row.arm for row in answer.networks] == ["linear_probe", "linear_probe"]
    assert answer.networks[0].seconds == pytest.approx(0.15)


def test_a_cheap_arm_costs_its_seconds_whatever_the_speed_of_training(curves: CurvesFile):
    slow, fast = (ask(curves, 500, device_speed=speed, gpu_cost=3600.0) for speed in (1.0, 1000.0))
    for answer in (slow, fast):
        probe = next(one for one in answer.arms if one.strategy == "linear-probe")
        assert (probe.cost.records_seen, probe.cost.your_seconds, probe.cost.share_to_best) == (500, None, None)
        assert probe.cost.seconds == pytest.approx(0.5) and probe.bill.machine == pytest.approx(0.5)
    assert slow.cost["scratch"].seconds == 1000 * fast.cost["scratch"].seconds


def test_a_linear_probe_pays_for_its_network_too(curves: CurvesFile):
    def bills(**asked: object) -> dict:
        return {one.strategy: one.bill for one in ask(curves, 250, label_cost=1.0, gpu_cost=3600.0, **asked).arms}

    free, paid = bills(), bills(uses=2)
    for arm in ("linear-probe", "fine-tune"):
        assert free[arm].pretraining is None and paid[arm].pretraining > 0
        assert paid[arm].total == pytest.approx(free[arm].total + paid[arm].pretraining)
    for arm in ("scratch", "random-convolutions"):
        assert paid[arm].pretraining is None and paid[arm].total == free[arm].total


def test_a_higher_price_of_pretraining_never_speaks_for_it(curves: CurvesFile):
    best = [ask(curves, 150, label_cost=1.0, gpu_cost=price, uses=1).best for price in (1.0, 1e3, 1e5, 1e7, 1e9)]
    assert best[0].strategy == "linear-probe" and best[-1].strategy == "random-convolutions"
    pretrained = [one.arm.is_pretrained for one in best]
    assert pretrained == sorted(pretrained, reverse=True)
    dear = ask(curves, 150, label_cost=1.0, gpu_cost=1e9, uses=1)
    assert dear.arms[0].strategy == "linear-probe", "the expected scores stay in order"
    assert "to be more than the margin and to pay for its pre-training" in " ".join(to_table(dear).split())


def test_the_networks_are_compared_by_the_arms_that_pay_off(curves: CurvesFile):
    free, dear = (
        recommend(Question(150, label_cost=1.0, gpu_cost=price, uses=1), curves).networks for price in (1.0, 1e9)
    )
    assert [row.arm for row in free] == ["linear_probe", "linear_probe"]
    assert [row.arm for row in dear] == ["random_convolutions", "random_convolutions"]


def test_an_arm_of_other_curves_is_said_to_be_missing(curves: CurvesFile):
    without = [replace(c, draws={a: d for a, d in c.draws.items() if a != "linear-probe"}) for c in curves.curves]
    mixed = replace(
        curves, curves=tuple(w if w.arch == CNN else c for w, c in zip(without, curves.curves, strict=True))
    )
    answer = ask(mixed)
    assert answer.not_measured == ("linear-probe",)
    assert f"Not measured with {CNN} on ptb-xl/superclass, and not compared: linear probe." in answer.warnings
    assert not [said for said in ask(replace(curves, curves=tuple(without))).warnings if "Not measured with" in said]


@pytest.mark.parametrize("asked", [{}, {"uses": 3, "label_cost": 2.0, "gpu_cost": 4.0, "target": 0.9}])
def test_the_table_names_the_best_first_in_80_columns(curves: CurvesFile, asked: dict, four_arms_path: Path):
    answer = ask(curves, 200, **asked)
    table = to_table(answer)
    assert table.startswith(f"TRAIN A LINEAR PROBE  ({CNN}, 200 records: interpolated)\n")
    assert "Fine-tune or scratch: " in table
    rows = [line for line in table.splitlines() if line.startswith(tuple(one.arm.words for one in answer.arms))]
    assert [row.split("  ")[0] for row in rows] == [one.arm.words for one in answer.arms]
    said = to_text(answer, explain(answer, four_arms_path))
    for text in (table, said):
        assert max(map(len, text.splitlines())) <= 80
    assert len(table.splitlines()) <= (SCREEN if asked else LINES)
    heads = next(line for line in said.splitlines() if line.endswith("convolutions  runs"))
    assert heads.split() == ["records", "scratch", "fine-tuned", "gain", "probe", "convolutions", "runs"]
    assert "Fine-tuning against scratch\nprobability   gain > 0.01" in said


def test_json_lists_the_arms_and_keeps_its_schema(four_arms_path: Path, command: Command):
    asked = "--n-records", 300, "--arch", "cnn", "--curves", four_arms_path, "--json", "--explain", "--target", 0.9
    for more in ((), ("--label-cost", 2, "--gpu-cost", 3, "--uses", 4)):
        code, out, _ = command("recommend", *asked, *more)
        document = json.loads(out)
        jsonschema.validate(document, SCHEMA)
        assert code == 0 and document["schema_version"] == 2
        assert document["best"] == document["arms"][0]["strategy"] == "linear-probe"
        by_strategy = {one["strategy"]: one for one in document["arms"]}
        assert set(by_strategy) == ARMS and document["not_measured"] == []
        for key, strategy in (("scratch", "scratch"), ("fine_tune", "fine-tune")):
            assert by_strategy[strategy]["score"] == document[key]
            assert by_strategy[strategy]["cost"] == document["cost"][key]
        assert by_strategy["fine-tune"]["difference"]["mean"] == document["gain"]["mean"]
        assert (by_strategy["scratch"]["bill"] is None) == (not more)
        assert set(document["explanation"]["parameters"]) == {"scratch", "fine-tune"}
        assert set(document["explanation"]["points"][0]["further"]) == {"linear_probe", "random_convolutions"}


def test_python_code_finds_the_best_and_all_arms(four_arms_path: Path):
    answer = ecgadvise.recommend(200, "cnn", curves=four_arms_path)
    assert answer.best.strategy == answer.arms[0].strategy == "linear-probe"
    assert len(answer.arms) == 4 and repr(answer).startswith("<Answer: train a linear probe at 200 records")
    assert str(answer).startswith("TRAIN A LINEAR PROBE")
    panel = answer.plot()
    assert {text.get_text().split(":")[0] for text in panel.get_legend().get_texts()} >= {
        "linear probe", "random convolutions", "fine-tuned", "from scratch",
    }  # fmt: skip


def test_curves_show_has_a_row_for_every_arm(four_arms_path: Path, command: Command):
    rows = json.loads(command("curves", "show", "--curves", four_arms_path, "--at", 500, "--json")[1])["rows"]
    assert {row["strategy"] for row in rows if row["arch"] == CNN} == ARMS
    shown = command("curves", "show", "--curves", four_arms_path, "--at", 500)[1]
    starts = {line.index("500") for line in shown.splitlines() if line.startswith("  ")}
    assert len(starts) == 1, "columns stand under each other"


def choose(curves: CurvesFile, asked: str = "auto", n_records: int = 500, network: str | None = "zoo-network"):
    return choose_strategy(asked, CNN, network, recommend(Question(n_records, CNN), curves))


def test_auto_trains_the_best_arm_that_the_networks_at_hand_allow(curves: CurvesFile):
    best = choose(curves, n_records=100)
    assert (best.strategy, best.starts) == ("linear-probe", True)
    assert best.why.startswith(
        "A linear probe of zoo-network. With 100 records train a linear probe: the best expected"
    )
    without = choose(curves, n_records=100, network=None)
    assert (without.strategy, without.starts) == ("random-convolutions", False)
    assert without.why.startswith(f"Random convolutions: no pre-trained {CNN} that takes these records is available")
    assert "and linear probe is advised" in without.why
    assert re.search(r"What is trained in its place loses 0\.\d{3} on average", without.why)
    assert choose(curves, n_records=2000).strategy == "random-convolutions"
    for asked in ("linear-probe", "random-convolutions"):
        choice = choose(curves, asked)
        assert (choice.strategy, choice.starts) == (asked, asked == "linear-probe")


@pytest.mark.parametrize("n_records", [100, 250, 500, 1000, 2000])
def test_auto_trains_what_the_answer_names(n_records: int, curves: CurvesFile):
    assert choose(curves, n_records=n_records).strategy == recommend(Question(n_records, CNN), curves).best.strategy


def test_a_cost_that_only_another_curve_knows_is_that_of_the_network(curves: CurvesFile):
    one = next(curve for curve in curves.curves if curve.arch == CNN)
    other = replace(one, task="another", cost={**one.cost})
    bare: Curve = replace(one, cost={a: c for a, c in one.cost.items() if a != "linear-probe"})
    answer = recommend(Question(500, CNN, task=one.task), replace(curves, curves=(bare, other)))
    probe = next(a for a in answer.arms if a.strategy == "linear-probe")
    assert isinstance(other.cost["linear-probe"], TrainingCost) and probe.cost.seconds == pytest.approx(0.5)
