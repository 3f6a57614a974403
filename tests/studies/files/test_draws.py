"""What is read off draws of learning curves, on curves of any form."""

import numpy as np
import pytest

from studies.files.draws import bent, evaluate, no_better_with_fewer, worth_in_records


def test_what_a_head_start_is_worth_has_the_sign_of_the_gain_on_any_curve():
    """Also on draws that fall for a while: more records are missing where fine-tuning gains, never fewer."""
    rng = np.random.default_rng(0)
    nodes = np.geomspace(25, 8000, 7)
    law = {"a": np.full(500, 0.9), "b": np.full(500, 1.0), "c": np.full(500, 0.5), "n0": np.zeros(500)}
    arms = {
        arm: bent(law, nodes, np.clip(0.7 + 0.03 * rng.standard_normal((500, 7)).cumsum(axis=1), 0.5, 1.0), 0.5)
        for arm in ("scratch", "fine-tune")
    }
    for n in (25, 90.0, 800, 7999, 8000):
        gain = (evaluate(arms["fine-tune"], n, 0.5) - evaluate(arms["scratch"], n, 0.5))[:, 0]
        worth = worth_in_records(arms, n, 100, 2000, 0.5)
        clear = np.abs(gain) > 1e-3
        assert (worth[clear & (gain > 0)] >= 0).all()
        assert (worth[clear & (gain < 0)] <= 0).all()
        inside = np.flatnonzero(np.isfinite(worth) & (n + worth > 26) & clear)
        for draw in inside[:40]:
            one = {name: value if name == "nodes" else value[[draw]] for name, value in arms["scratch"].items()}
            reached = evaluate(one, n + worth[draw], 0.5)[0, 0]
            assert reached == pytest.approx(evaluate(arms["fine-tune"], n, 0.5)[draw, 0], abs=4e-3)
            way = np.geomspace(n, n + worth[draw], 40)[1:-2]
            ahead = evaluate(one, way, 0.5)[0] - evaluate(arms["fine-tune"], n, 0.5)[draw, 0]
            assert (ahead < 4e-3).all() if gain[draw] > 0 else (ahead > -4e-3).all()


def test_with_fewer_records_than_any_run_no_draw_does_better():
    scores = np.array([[0.9, 0.6, 0.7, 0.8, 0.75], [0.5, 0.6, 0.7, 0.8, 0.9]])
    assert no_better_with_fewer(scores, 2).tolist() == [[0.6, 0.6, 0.7, 0.8, 0.75], [0.5, 0.6, 0.7, 0.8, 0.9]]
    assert no_better_with_fewer(scores, 0).tolist() == scores.tolist()
