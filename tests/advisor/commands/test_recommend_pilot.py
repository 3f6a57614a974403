"""``recommend --data DIR --pilot``: from the records to the answer that it changes, stopped and gone on with."""

import copy
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from studies.running.workplaces import SchedulerError
from studies.runs.store import Store

SCHEMA = json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())


def to_three_digits(value: float) -> set[str]:
    """What a number may read that JSON has rounded to four digits: rounded again it may end either way."""
    return {f"{value + off:+.3f}" for off in (-5e-5, 0.0, 5e-5)}


ARCH = "resnet1d18-w2"
OWN_TASK = "synthetic/diagnosis"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 80)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, checkpoint_writer) -> Path:
    return checkpoint_writer(tmp_path_factory.mktemp("networks") / "small", ARCH)


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory, curves_path: Path) -> Path:
    """The synthetic evidence as that of a network small enough to be piloted here, with a pool of three tasks."""
    document = json.loads(curves_path.read_text().replace("resnet1d18-w16", ARCH))
    pool = copy.deepcopy(next(curve for curve in document["curves"] if curve["arch"] == ARCH))
    pool |= {
        "pooled": True,
        "tasks": ["ptb-xl/superclass", "ptb-xl/form", "ludb", OWN_TASK],
        "task": "pooled",
        "points": {},
    }
    document["curves"].append(pool)
    path = tmp_path_factory.mktemp("evidence") / "curves.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    yield tmp_path


@pytest.fixture
def options(made_up: Corpus, checkpoint: Path, curves: Path) -> tuple[object, ...]:
    return ("recommend", "--data", made_up.root, "--from", checkpoint, "--curves", curves, "--pilot")


def sentence(ended: tuple[int, str, str], code: int) -> str:
    """Assert the exit code, nothing on stdout and no traceback; return the last line of stderr."""
    assert ended[0] == code, ended
    assert ended[1] == ""
    assert "Traceback" not in ended[2]
    return ended[2].splitlines()[-1]


def test_a_pilot_answers_for_these_records_and_shows_how_the_answer_moved(
    options, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("advisor.own_records.pilots.study.MOST_REPLICATES", 2)
    store = tmp_path / "kept"
    bare = json.loads(command(*options[:-1], "--json")[1])
    code, out, err = command(*options, "--pilot-store", store, "--minutes", 60, "--json")
    assert code == 0, err
    answer = json.loads(out)
    jsonschema.validate(answer, SCHEMA)
    pilot = answer["data"]["pilot"]
    assert f"pilot: {ARCH} from scratch and from small" in err.splitlines()[0]
    assert pilot["network"] == "small"
    assert {pair["pairs"] for pair in pilot["pairs"]} == {2}
    assert pilot["pairs"][-1]["n_records"] == pytest.approx(0.75 * answer["data"]["records_to_learn_from"], abs=2)
    assert pilot["made"] is None
    arms = ["fine-tune", "scratch", "linear-probe", "random-convolutions"]
    assert [(score["strategy"], score["n_records"], score["runs"]) for score in pilot["scores"]] == [
        (arm, pair["n_records"], 2) for arm in arms for pair in pilot["pairs"]
    ]
    assert {one["strategy"] for one in answer["arms"]} == set(arms)  # no other task has the last two
    assert pilot["after"]["best"] == answer["best"] == answer["arms"][0]["strategy"]
    assert answer["not_measured"] == []
    own = "Predicted from the pilot alone, because no other task has them: linear probe and random convolutions."
    assert own in answer["warnings"]
    assert Path(pilot["store"]).parent == store
    assert (bare["data"]["pilot"], bare["data"]["pilot_ignored"]) == (None, None)
    for name in ("verdict", "gain", "scratch", "fine_tune"):
        assert pilot["before"][name] == bare[name]
        assert pilot["after"][name] == answer[name]
    assert pilot["before"] != pilot["after"]
    assert answer["support"] == "extrapolated"  # to all records, of which the pilot learnt from three quarters
    assert not answer["pooled"]
    of_pilot = 2 * 2 * len(pilot["pairs"])
    assert answer["evidence"]["runs"] == of_pilot + bare["evidence"]["runs"]
    assert answer["data"]["task"] == OWN_TASK
    assert answer["evidence"]["tasks"] == ["ptb-xl/superclass", "ptb-xl/form", "ludb", OWN_TASK]
    assert any(warning.startswith(f"The evidence has {OWN_TASK} already: ") for warning in answer["warnings"])
    assert any(warning.startswith("The bands are of your own records, from ") for warning in answer["warnings"])
    few = "No class has 10 positive and 10 negative test records: "
    assert any(warning.startswith(few) for warning in answer["warnings"])

    finished = Store(store / "pilot.db").keys()
    page = tmp_path / "pilot.html"
    code, out, err = command(*options, "--pilot-store", store, "--minutes", 60, "--report", page)
    assert (code, Store(store / "pilot.db").keys()) == (0, finished)  # nothing is run twice
    assert max(map(len, out.splitlines())) <= 80
    shown = " ".join(out.split())
    assert "What the pilot changed before after best arm" in shown
    for stage in ("before", "after"):
        assert any(words in shown for words in to_three_digits(pilot[stage]["gain"]["mean"]))
    first = next(score for score in pilot["scores"] if score["strategy"] == "linear-probe")
    (measured,) = re.findall(rf"linear probe measured (0\.\d+) at {first['n_records']} records", shown)
    assert float(measured) == pytest.approx(first["mean"], abs=6e-4)
    written = re.sub(r"\s+", " ", page.read_text())
    (section,) = re.findall(r'<section id="pilot".*?</section>', written)
    for stage in ("before", "after"):
        assert any(words in section for words in to_three_digits(pilot[stage]["gain"]["mean"]))
    assert all(f" at {pair['n_records']}" in section for pair in pilot["pairs"])
    assert f"measured {measured} at {first['n_records']} records" in section
    assert written.index('id="pilot"') < written.index('id="your-records"')
    explained = command(*options, "--pilot-store", store, "--minutes", 60, "--explain", "--json")[1]
    explanation = json.loads(explained)["explanation"]
    assert explanation["parameters"] == {}  # of no law: the draws are scores given the pilot's
    assert explanation["limits"][0].startswith("With a pilot ")
    said = " ".join(command(*options, "--pilot-store", store, "--minutes", 60, "--explain")[1].split())
    assert f"{of_pilot} runs of a pilot on {answer['data']['task']}; 2 pairs or more at each size." in said
    assert f"{bare['evidence']['runs']} runs of ptb-xl/superclass, ptb-xl/form, ludb, {OWN_TASK}; " in said
    of_pool = answer["data"]["records_to_learn_from"] - pilot["pairs"][-1]["n_records"]
    assert f"Every run of the pilot was tested on {of_pool} records" in said
    far = command(*options, "--pilot-store", store, "--minutes", 60, "--n-records", 1000, "--json")
    assert any(warning.startswith("The pilot ran from ") for warning in json.loads(far[1])["warnings"])
    assert shown.index("macro AUROC") < shown.index("What the pilot changed") < shown.index("Your records")

    later = json.loads(command(*options[:-1], "--json")[1])  # without --pilot: it is known by the records
    jsonschema.validate(later, SCHEMA)
    assert later["data"]["pilot"]["made"] == Store(store / "pilot.db").runs()[0].created[:10]
    for name in ("verdict", "gain", "scratch", "fine_tune", "arms", "best"):
        assert later[name] == answer[name]
    other = command(*options[:-1], "--test-seed", 1)
    assert (
        f"A pilot on these records ({store}) is not in the answer: it is of other labels, or other records were kept"
        in (" ".join(other[1].split()))
    )
    alone = json.loads(command(*options[:-1], "--task", "ptb-xl/superclass", "--json")[1])
    assert alone["data"]["pilot_ignored"].endswith("is not in the answer: --task answers from ptb-xl/superclass alone.")


def test_without_a_network_to_fine_tune_from_a_pilot_says_so(made_up: Corpus, curves: Path, command: Command):
    ended = command("recommend", "--data", made_up.root, "--arch", ARCH, "--curves", curves, "--pilot")
    said = sentence(ended, 2)
    assert "pre-trained resnet1d18-w2" in said
    assert "--from" in said


def test_a_network_for_longer_records_is_refused(
    made_up: Corpus, curves: Path, command: Command, checkpoint_writer, place
):
    longer = checkpoint_writer(place / "longer", ARCH, n_samples=1200)
    ended = command("recommend", "--data", made_up.root, "--curves", curves, "--pilot", "--from", longer)
    assert "takes 12 leads" in sentence(ended, 3)


def test_a_budget_that_is_too_small_is_refused_with_what_it_takes(options, command: Command):
    assert "--minutes" in sentence(command(*options, "--minutes", 1e-5), 2)


def test_a_store_that_cannot_be_written_ends_in_one_sentence(options, place: Path, command: Command):
    (place / "file").write_text("")
    assert sentence(command(*options, "--pilot-store", place / "file"), 1).startswith("error: cannot write ")


def test_ctrl_c_stops_a_pilot_and_the_same_command_goes_on(options, place: Path):
    words = [
        sys.executable,
        "-m",
        "ecgadvise",
        *map(str, options),
        "--pilot-store",
        str(place / "kept"),
        "--minutes",
        "60",
    ]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("pilot: ")
    while process.poll() is None and not (place / "kept" / "pilot.db").exists():  # the first training is about to begin
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    if process.returncode == 0:  # a pair was complete already
        assert "stopped: the answer rests on" in err
    else:
        assert (process.returncode, out) == (130, "")
        assert err.splitlines()[-1].startswith("interrupted; go on with: ecgadvise recommend --data ")
    assert "Traceback" not in err


def test_a_pilot_is_run_by_the_cluster_that_is_named(options, command: Command, monkeypatch: pytest.MonkeyPatch):
    def unreachable(address: str, device: str, _load: object) -> None:
        raise SchedulerError(f"no Dask scheduler answers at {address} for {device}")

    monkeypatch.setattr("studies.running.workplaces.dask_workplace", unreachable)
    ended = command(*options, "--scheduler", "tcp://127.0.0.1:9")
    assert sentence(ended, 1) == "error: no Dask scheduler answers at tcp://127.0.0.1:9 for auto"
    said = sentence(command(*options[:-1], "--scheduler", "tcp://127.0.0.1:9"), 2)
    assert said == "error: --scheduler is where --pilot trains: give --pilot with it"
