"""Recordings as JSON: what is taken, and the sentence for everything else."""

import json

import numpy as np
import pytest

from advisor.service.problems import Problem
from advisor.service.served_models.signals import read_signals

TWO = {"fs": 500, "leads": ["i", "aVL"]}


def test_one_recording_and_several_are_told_apart_by_how_deep_they_are():
    (one,) = read_signals(json.dumps({**TWO, "signals": [[1, 2.5], [3, 4]]}).encode())
    record = one.read()
    assert (one.record, record.fs, record.leads) == ("recording 0", 500.0, ("I", "aVL"))
    np.testing.assert_array_equal(record.signals, np.array([[1, 2.5], [3, 4]], np.float32))
    several = read_signals(json.dumps({**TWO, "units": "mV", "signals": [[[1], [2]], [[3], [4]]]}).encode())
    assert [one.record for one in several] == ["recording 0", "recording 1"]
    assert several[1].read().signals.tolist() == [[3.0], [4.0]]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"fs": 500, "leads": ["I"], "signals": [[1, NaN]]}', "NaN or infinite"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1, -Infinity]]}', "NaN or infinite"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1, 1e999]]}', "NaN or infinite"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1, 1e300]]}', "no millivolt"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1, null]]}', "valid number"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1, "4711"]]}', "valid number"),
        ('{"fs": 500, "leads": ["I", "II"], "signals": [[1]]}', "1 rows, and 2 leads"),
        ('{"fs": 500, "leads": ["I", "II"], "signals": [[1], [1, 2]]}', "same number of samples"),
        ('{"fs": 500, "leads": ["I"], "signals": [[]]}', "at least one"),
        ('{"fs": 500, "leads": ["I"], "signals": []}', "signals"),
        ('{"fs": 500, "leads": [], "signals": [[1]]}', "leads"),
        ('{"fs": 0, "leads": ["I"], "signals": [[1]]}', "fs"),
        ('{"fs": NaN, "leads": ["I"], "signals": [[1]]}', "fs is NaN"),
        ('{"fs": 500, "leads": ["I"], "signals": [[1]], "units": "uV"}', "units"),
        ('{"leads": ["I"], "signals": [[1]]}', "fs"),
        ("[1]", "object"),
        ("{", "not JSON"),
        ("", "not JSON"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_sentence_without_its_numbers(document: str, says: str):
    with pytest.raises(Problem, match=says) as error:
        read_signals(document.encode())
    assert error.value.status == 422
    assert "4711" not in error.value.detail
    assert "\n" not in error.value.detail


def test_more_recordings_than_a_request_may_have_are_refused():
    with pytest.raises(Problem, match="at most 1000 items"):
        read_signals(json.dumps({"fs": 500, "leads": ["I"], "signals": [[[1.0]]] * 1001}).encode())
