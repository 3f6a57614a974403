"""Recordings as JSON: what is taken, and the sentence for everything else."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.service.problems import Problem
from advisor.service.served_models.signals import read_signals
from engine.records.lead_names import lead_names

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


NUMBERS = st.one_of(st.integers(-9, 9), st.floats(-1e6, 1e6, allow_nan=False))
NAMES = st.text('I[]{},:\\"1 \n\u00e9', min_size=1, max_size=8)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from([None, 1]))
def test_every_number_comes_to_its_place_whatever_names_and_spaces_are_around_it(
    data: st.DataObject, n: int, n_leads: int, n_samples: int, indent: int | None
):
    drawn = st.lists(NUMBERS, min_size=n_samples, max_size=n_samples)
    signals = data.draw(st.lists(st.lists(drawn, min_size=n_leads, max_size=n_leads), min_size=n, max_size=n))
    names = data.draw(st.lists(NAMES, min_size=n_leads, max_size=n_leads))
    order = data.draw(st.permutations(["fs", "leads", "signals", "units"]))
    whole = {"fs": 100, "leads": names, "signals": signals if n > 1 else signals[0], "units": "mV"}
    text = json.dumps({name: whole[name] for name in order}, indent=indent, ensure_ascii=data.draw(st.booleans()))
    records = [one.read() for one in read_signals(text.encode())]
    assert [record.leads for record in records] == [lead_names(tuple(names))] * n
    np.testing.assert_array_equal([record.signals for record in records], np.array(signals, np.float64).astype("f4"))


ONE = '{"fs": 500, "leads": ["I"], "signals": %s}'
PAIR = ONE.replace('"I"', '"I", "II"')
AROUND = "it has more than 1,000,000 bytes besides the numbers of its leads"


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (ONE % f"[[{'0,' * 600_000}0]]", "signals.0.0 has more than 600,000 samples"),
        (ONE % f"[{'[1],' * 64_000}[1]]", "it has more than 64,000 lists of numbers"),
        (ONE.replace('"I"', f'"{"I" * 10**6}"') % "[[1]]", AROUND),
        (ONE % f"[{'[],' * 400_000}[]]", AROUND),
        (ONE % ("[" * 1_100_000), AROUND),
        (ONE % ('"' + "[1]" * 400_000), AROUND),
        ('{"signals": [[2]], ' + (ONE % "[[1]]")[1:], "it has a key twice: give fs, leads, "),
        (PAIR % "[[1, 2], [3, nothing]]", "it is not JSON"),
        (PAIR % "[[1, 2], [3 4]]", "it is not JSON"),
        (PAIR % "[[[1, 2], [3, NaN]]]", "signals.0.1.1 is NaN or infinite"),
        (PAIR % "[[1, 2], [3, [4]]]", "signals.0.1.1: input should be a valid number"),
        (ONE.replace("500", "[1]") % "[[1]]", "fs: input should be a valid number"),
    ],
    ids=range(12),
)
def test_what_is_too_much_or_in_the_wrong_place_is_refused(document: str, says: str):
    with pytest.raises(Problem) as error:
        read_signals(document.encode())
    assert error.value.status == 422
    assert says in error.value.detail


# With so much room as the document and its numbers take, and 60 MB: as lists of Python's they would take 600.
BOUNDED = """
import resource
from advisor.service.served_models.signals import read_signals
row = b"[" + b"0," * 500_000 + b"0]"
document = b'{"fs": 500, "leads": ["I", "II"], "signals": [' + b",".join([b"[" + row + b"," + row + b"]"] * 10) + b"]}"
del row
pages = int(open("/proc/self/statm").read().split()[0])
more = 2 * len(document) + 60_000_000
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
print(len(read_signals(document)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process is not bounded here")
def test_the_numbers_of_a_large_document_are_never_all_objects_of_python():
    ended = subprocess.run([sys.executable, "-c", BOUNDED], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout) == (0, "10\n"), ended.stderr
