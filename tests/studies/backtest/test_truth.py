"""How well the truth of a cell is known, where the noise of its runs is known."""

import numpy as np
import pytest

from studies.backtest.truth import estimate_replicate_noise, find_measured, measure_truth
from studies.runs.run import Run
from studies.runs.run_tables import PatientCovariance, RunTable, make_table

SIZES = (100, 250, 500, 1000, 2000)


def make_tables(sd: dict[str, float], shared: float = 0.0, n_tables: int = 40, replicates: int = 3) -> list[RunTable]:
    """Runs about .6 with a spread of each arm at 500 records, to which a replicate's records add ``shared`` in all."""
    rng = np.random.default_rng(1)
    tables = []
    for k in range(n_tables):
        runs = []
        for n in SIZES:
            for r in range(replicates):
                records, falls = shared * rng.standard_normal(), (n / 500) ** -0.55
                runs += [
                    Run(task=f"t{k}", arch="net", family="cnn", strategy=arm,
                        upstream="up" if arm != "scratch" else None, n_records=n, replicate=r,
                        auroc_macro=0.6 + falls * (records + spread * rng.standard_normal()))
                    for arm, spread in sd.items()
                ]  # fmt: skip
        tables.append(make_table(runs, "up"))
    return tables


def variances(tables: list[RunTable]) -> dict[str, float]:
    """The mean of what is said of the error of a mean of three, by arm and for the gain."""
    noise = estimate_replicate_noise(tables)
    arms = ("scratch", "fine-tune")
    truths = [measure_truth(table, 500, noise, arms, with_patients=True) for table in tables]
    found = {arm: np.mean([truth.of({arm: 1.0})[1] ** 2 for truth in truths]) for arm in arms}
    return found | {"gain": np.mean([truth.gain[1] ** 2 for truth in truths])}


def test_each_arm_has_its_own_noise():
    found = variances(make_tables({"scratch": 0.04, "fine-tune": 0.01}))
    assert found["scratch"] == pytest.approx(0.04**2 / 3, rel=0.25)
    assert found["fine-tune"] == pytest.approx(0.01**2 / 3, rel=0.25)
    assert found["gain"] == pytest.approx((0.04**2 + 0.01**2) / 3, rel=0.25)


def test_what_a_replicate_s_records_add_to_both_arms_is_not_in_their_difference():
    found = variances(make_tables({"scratch": 0.02, "fine-tune": 0.02}, shared=0.02))
    assert found["scratch"] == pytest.approx(2 * 0.02**2 / 3, rel=0.25)
    assert found["gain"] / (found["scratch"] + found["fine-tune"]) == pytest.approx(0.5, abs=0.1)


def test_a_cell_that_scatters_more_than_its_arm_is_known_less_well():
    (table,) = make_tables({"scratch": 0.01, "fine-tune": 0.01}, n_tables=1)
    noise = estimate_replicate_noise([table])
    law = float(noise.laws[table.name, "scratch"].sd(np.array([500.0]))[0])
    calm, wild = (noise.variance(table, "scratch", 500, 0.8 + np.array([-x, 0, x])) for x in (0.0, 5 * law))
    assert calm == pytest.approx(4 / 6 * law**2)
    assert wild == pytest.approx((4 + 50) / 6 * law**2)


def test_the_patients_add_their_covariance_and_only_where_they_are_asked_for():
    (table,) = make_tables({"scratch": 0.01, "fine-tune": 0.01}, n_tables=1)
    noise, arms = estimate_replicate_noise([table]), ("scratch", "fine-tune")
    patients = PatientCovariance(("fine-tune", "scratch"), np.array([[4e-4, 1e-4], [1e-4, 9e-4]]))
    tested = RunTable(**{**vars(table), "patients": patients})
    plain = measure_truth(tested, 500, noise, arms, with_patients=False)
    with_them = measure_truth(tested, 500, noise, arms, with_patients=True)
    np.testing.assert_allclose(with_them.covariance - plain.covariance, [[9e-4, 1e-4], [1e-4, 4e-4]])
    assert with_them.gain[1] ** 2 == pytest.approx(plain.gain[1] ** 2 + 11e-4)


def test_an_arm_with_one_run_at_a_size_has_no_truth_there():
    (table,) = make_tables({"scratch": 0.01, "fine-tune": 0.01}, n_tables=1)
    alone = tuple(one for one in table.by_replicate if one.n_records != 500 or one.number == 0)
    assert find_measured(RunTable(**{**vars(table), "by_replicate": alone}), 500) == {}
    assert set(find_measured(table, 500)) == {"scratch", "fine-tune"}


def test_replicates_that_do_not_differ_are_known_to_a_ten_thousandth():
    runs = [
        Run(task="t", arch="net", family="cnn", strategy="scratch", n_records=n, replicate=r, auroc_macro=0.8)
        for n in SIZES for r in range(3)
    ]  # fmt: skip
    table = make_table(runs, None)
    truth = measure_truth(table, 500, estimate_replicate_noise([table]), ("scratch",), with_patients=True)
    assert truth.of({"scratch": 1.0}) == pytest.approx((0.8, 1e-4))
