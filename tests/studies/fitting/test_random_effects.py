"""Random effects over sources, and the split of a variance, on made values whose truth is known."""

import numpy as np
import pytest

from studies.fitting.random_effects import (
    GroupedValues,
    TaskEstimate,
    combine_sources,
    share_between,
    split_variance,
)

SIZES = (9, 3, 2, 1, 1, 1, 1, 1)  # tasks of each source


def known(effect: float, sd: float = 1e-3) -> TaskEstimate:
    return TaskEstimate(effect, sd**2, 8, 9, 1 / 9)


def made_sources(rng: np.random.Generator, between: float, within: float) -> dict[str, dict[str, TaskEstimate]]:
    found = {}
    for source, n_tasks in enumerate(SIZES):
        mean = 0.03 + between * rng.standard_normal()
        tasks = mean + within * rng.standard_normal(n_tasks) + 0.01 * rng.standard_normal(n_tasks)
        found[f"s{source}"] = {f"s{source}/t{k}": known(effect, 0.01) for k, effect in enumerate(tasks)}
    return found


def test_a_source_counts_once_however_many_tasks_it_has():
    crowd = {f"crowd/t{k}": known(0.12 + 0.001 * k) for k in range(12)}
    others = {f"s{k}": {f"s{k}/t": known(0.001 * k)} for k in range(5)}
    found = combine_sources({"crowd": crowd, **others})
    assert found is not None
    assert found.effect == pytest.approx(0.125 / 6, abs=0.005)  # over tasks it would be 0.09
    assert found.ci_lower < 0 < found.ci_upper
    assert found.between_sources == pytest.approx(np.std([0.1255, 0, 0.001, 0.002, 0.003, 0.004], ddof=1), rel=0.05)
    assert found.between_tasks < 0.01
    assert (len(found.sources), len(found.tasks), found.n_pairs) == (6, 17, 17 * 9)


def test_intervals_over_sources_and_of_one_more_source_hold_the_truth_nine_times_in_ten():
    rng, of_mean, of_next = np.random.default_rng(4), [], []
    for _ in range(80):
        found = combine_sources(made_sources(rng, 0.03, 0.02))
        assert found is not None and found.prediction is not None
        of_mean.append(found.ci_lower <= 0.03 <= found.ci_upper)
        one_more = 0.03 + np.hypot(0.03, 0.02) * rng.standard_normal()
        of_next.append(found.prediction[0] <= one_more <= found.prediction[1])
    assert 0.8 <= np.mean(of_mean) <= 0.99
    assert 0.8 <= np.mean(of_next) <= 0.99


def test_what_tasks_of_one_source_differ_by_is_told_from_what_sources_do():
    rng = np.random.default_rng(5)
    many = [combine_sources(made_sources(rng, *sds)) for sds in ((0.04, 0.0), (0.0, 0.04)) for _ in range(15)]
    sources, tasks = ([getattr(one, name) for one in many] for name in ("between_sources", "between_tasks"))
    assert np.mean(sources[:15]) > 3 * np.mean(tasks[:15])
    assert np.mean(tasks[15:]) > 3 * np.mean(sources[15:])


def test_one_source_says_nothing_of_sources_and_two_nothing_of_a_third():
    one = {"a": {"a/t": known(0.1), "a/u": known(0.2)}}
    assert combine_sources(one) is None
    two = combine_sources({**one, "b": {"b/t": known(0.1)}})
    assert two is not None and two.prediction is None
    single = combine_sources({name: {name: known(0.1 * k)} for k, name in enumerate("abc")})
    assert single is not None and single.between_tasks is None


def test_a_test_set_of_ones_own_is_not_taken_for_a_difference_of_groups():
    rng = np.random.default_rng(6)
    groups, blocks = (0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3), (0, 1, 2, 3, 4, 0, 0, 1, 1, 2, 2)
    noise = rng.standard_normal(11)
    shifts = np.array([5.0, -7.0, 3.0, 0.0, 9.0])[list(blocks)]
    plain, shifted = (split_variance(GroupedValues(values, groups, blocks)) for values in (noise, noise + shifts))
    assert plain is not None and shifted is not None
    assert shifted.between_sd == pytest.approx(plain.between_sd)
    assert shifted.within_sd == pytest.approx(plain.within_sd)
    assert (plain.within_freedom, plain.between_freedom) == (3, 3)


def test_with_one_block_the_split_is_the_analysis_of_variance():
    values = np.array([1.0, 2.0, 3.0, 11.0, 12.0, 13.0])
    found = split_variance(GroupedValues(values, (0, 0, 0, 1, 1, 1), (0,) * 6))
    assert found is not None
    assert found.within_sd == pytest.approx(1.0)
    assert found.between_sd == pytest.approx(((150 - 1) / 3) ** 0.5)
    assert split_variance(GroupedValues(values, (0,) * 6, (0,) * 6)) is None
    assert split_variance(GroupedValues(values, tuple(range(6)), (0,) * 6)) is None


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_the_interval_of_a_share_holds_it_nine_times_in_ten(share: float):
    rng, held = np.random.default_rng(7), []
    groups = (0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3)
    for _ in range(80):
        splits = []
        for scale in (0.01, 0.1):  # splits of unequal noise have the share in common
            between = (share / (1 - share)) ** 0.5 * rng.standard_normal(4)[list(groups)]
            values = scale * (between + rng.standard_normal(11))
            splits.append(split_variance(GroupedValues(values, groups, (0,) * 11)))
        middle, low, high = share_between(splits)
        assert low <= middle <= high
        held.append(low <= share <= high)
    assert 0.84 <= np.mean(held) <= 0.99
