"""``--from`` a network of somebody else's: records as it reads them, its own runs, a pilot alone, or no answer."""

import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest

from engine.corpora.corpus import Corpus
from engine.corpora.synthetic import prepared_synthetic
from studies.running.study_networks import digest_of

SCHEMA = json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())
ARCH = "resnet1d18-w2"
SOURCE = {"name": "their hospital", "licence": "MIT", "url": "https://example.org"}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return prepared_synthetic(tmp_path_factory.mktemp("corpora"), 80)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory, checkpoint_writer) -> Callable[..., Path]:
    """The function that writes a network as ``zoo add`` leaves it."""

    def write(name: str = "theirs", arch: str = ARCH, **facts: object) -> Path:
        record = {"imported": {"file": "weights.pt"}}
        folder = tmp_path_factory.mktemp("networks") / name
        return checkpoint_writer(folder, arch, task="their labels", recipe={}, source=SOURCE, record=record, **facts)

    return write


@pytest.fixture
def theirs(imported) -> Path:
    return imported()


def evidence(path: Path, curves: Path, described: str, upstream: str = "zoo:theirs") -> Path:
    """The synthetic evidence, with runs of the small network that start from somebody else's."""
    document = json.loads(curves.read_text())
    ours = next(curve for curve in document["curves"] if curve["arch"] == "resnet1d18-w16")
    document["networks"][ARCH] = document["networks"]["resnet1d18-w16"]
    document["curves"].append({**ours, "arch": ARCH, "upstream": upstream})
    document["upstreams"][upstream] = described
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ECGADVISE_CORPORA", str(tmp_path / "corpora"))
    yield tmp_path


def plain(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_without_its_runs_there_is_no_answer_and_the_pilot_is_offered(
    made_up: Corpus, theirs: Path, curves_path: Path, command: Command
):
    asked = ("recommend", "--data", made_up.root, "--from", theirs)
    code, out, err = command(*asked, "--curves", curves_path)
    assert (code, out) == (4, "")
    assert err.splitlines()[-1] == (
        "error: no run of the evidence starts from theirs, and no curve of another network stands in for it; a pilot "
        f"on your own records would tell: ecgadvise recommend --data {made_up.root} --from {theirs} --pilot"
    )
    code, out, _ = command(*asked, "--json")
    assert (code, json.loads(out)["no_evidence"]["add"]) == (4, None)


def test_a_pilot_alone_answers_and_every_later_command_knows_it(
    made_up: Corpus, theirs: Path, curves_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, place: Path
):
    monkeypatch.setattr("advisor.own_records.pilots.study.MOST_REPLICATES", 2)
    asked = ("recommend", "--data", made_up.root, "--from", theirs, "--curves", curves_path)
    page = place / "page.html"
    code, out, err = command(*asked, "--pilot", "--minutes", 60, "--report", page, "--json")
    assert code == 0, err
    answer = json.loads(out)
    jsonschema.validate(answer, SCHEMA)
    pilot, runs = answer["data"]["pilot"], answer["evidence"]["runs"]
    assert (answer["evidence"]["study"], answer["evidence"]["tasks"]) == ("pilot", ["synthetic/diagnosis"])
    assert runs == 2 * sum(size["pairs"] for size in pilot["pairs"])
    assert (pilot["before"], pilot["after"]["gain"]) == (None, answer["gain"])
    assert pilot["others"]["arch"] in {"resnet1d18-w16", "gru-w32"}
    assert (pilot["others"]["upstream"], pilot["others"]["tasks"]) == ("ptb-xl/non-diagnostic", 1)
    assert pilot["others"]["gain"] != answer["gain"]
    assert {one["strategy"] for one in answer["arms"]} == {
        "scratch", "fine-tune", "linear-probe", "random-convolutions",
    }  # fmt: skip
    alone = f"no run of the evidence starts from it: this answer is from the pilot alone, {runs // 2} pairs on these"
    shown = plain(page.read_text())
    assert alone in shown
    assert "What the pilot measured" in shown
    assert (
        "licence MIT; from https://example.org; which records it has seen is not known; its pre-training was" in shown
    )
    assert "Fine-tuning starts from a network whose pre-training was not controlled here." in answer["warnings"]

    code, table, err = command(*asked, "--explain")
    assert code == 0, err
    assert alone in plain(table)
    assert "What the pilot measured" in table
    assert re.search(r"^ +other networks +pilot alone$", table, re.MULTILINE)
    assert f"{ARCH}, theirs" in plain(table)
    assert re.search(r"pilot +from theirs, .* on \d{4}-\d\d-\d\d; kept in", plain(table))
    again = json.loads(command(*asked, "--json")[1])
    jsonschema.validate(again, SCHEMA)
    assert (again["gain"], again["best"]) == (answer["gain"], answer["best"])
    assert again["data"]["pilot"]["made"] is not None

    code, out, err = command("train", "--data", made_up.root, "--from", theirs, "--out", place / "out", "--json")
    assert code == 0, err
    trained = json.loads(out)
    assert trained["strategy"] == trained["advice"]["best"] == answer["best"]
    assert trained["advice"]["pilot"] == pilot["store"]


def test_a_training_without_any_answer_says_why_and_what_it_does_all_the_same(
    made_up: Corpus, theirs: Path, command: Command, place: Path
):
    asked = ("train", "--data", made_up.root, "--from", theirs, "--n-records", 40, "--out", place / "out", "--json")
    code, out, err = command(*asked)
    assert code == 0, err
    trained = json.loads(out)
    assert trained["strategy"] == "fine-tune"
    assert trained["advice"]["why"] == (
        "Fine-tuning theirs, since it is available and takes no more epochs: The adviser has no answer: no run of the "
        "evidence starts from theirs, and no pilot on these records does (ecgadvise recommend --data "
        f"{made_up.root} --from {theirs} --pilot)."
    )


def test_its_own_runs_answer_and_are_told_by_the_weights(
    made_up: Corpus, theirs: Path, imported, curves_path: Path, command: Command, place: Path
):
    weights = digest_of(theirs)[:12]
    by_weights = evidence(place / "a.json", curves_path, f"theirs; weights {weights}", "zoo:another-name")
    by_name = evidence(place / "b.json", curves_path, "theirs, whichever weights")
    of_others = evidence(place / "c.json", curves_path, "theirs; weights 0123456789ab")
    asked = ("recommend", "--data", made_up.root, "--from", theirs, "--json", "--curves")
    for path, upstream in ((by_weights, "zoo:another-name"), (by_name, "zoo:theirs")):
        code, out, err = command(*asked, path)
        assert code == 0, err
        answer = json.loads(out)
        jsonschema.validate(answer, SCHEMA)
        assert (answer["question"]["upstream"], answer["question"]["arch"]) == (upstream, ARCH)
        assert answer["data"]["pretrained"]["name"] == "theirs"
    assert command(*asked, of_others)[0] == 4


@pytest.mark.parametrize("verb", ["recommend", "train"])
def test_records_are_prepared_as_the_network_reads_them(
    verb: str, ptbxl_tree: Path, imported, curves_path: Path, command: Command, place: Path
):
    network = imported(fs=125.0, n_samples=1000)  # 8 s
    if verb == "recommend":
        path = evidence(place / "a.json", curves_path, "theirs")
        code, out, err = command("recommend", "--data", ptbxl_tree, "--from", network, "--curves", path, "--json")
        assert code == 0, err
        data = json.loads(out)["data"]
        assert (data["fs"], data["seconds"]) == (125.0, 8.0)
        assert data["transferability"] is not None  # its features were measured on these records
    else:
        asked = ("--strategy", "linear-probe", "--n-records", 60, "--out", place / "out", "--json")
        code, out, err = command("train", "--data", ptbxl_tree, "--from", network, *asked)
        assert code == 0, err
        facts = json.loads((place / "out" / "checkpoint.json").read_text())
        assert (facts["fs"], facts["n_samples"]) == (125.0, 1000)


def test_a_prepared_corpus_of_another_rate_names_the_command_that_makes_one(
    made_up: Corpus, imported, command: Command, place: Path
):
    network = imported(fs=125.0, n_samples=1000)
    for words in (("recommend",), ("train", "--out", place / "out")):
        code, out, err = command(*words, "--data", made_up.root, "--from", network)
        assert (code, out) == (2, "")
        assert "theirs reads signals at 125 Hz, and the records of" in err
        assert "are prepared at 100 Hz: ecgadvise data prepare DIR --fs 125 makes a corpus for it" in err
    assert not (place / "out").exists()


def test_nobody_starts_from_an_added_network_unasked(made_up: Corpus, imported, command: Command, monkeypatch, place):
    from engine.checkpoints import zoo

    network = imported("added", "resnet1d18-w16", n_records=10**9)
    shipped = zoo.released()
    monkeypatch.setattr(zoo, "released", lambda *_: {"added": network, **shipped})
    answer = json.loads(command("recommend", "--data", made_up.root, "--arch", "cnn", "--json")[1])
    assert answer["data"]["pretrained"]["name"] == "resnet1d18-w16-ptbxl"
