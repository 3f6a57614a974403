"""Networks of somebody else's: runs that start from one answer for it and for nothing else, and nothing else for it."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ecgadvise
from advisor.answer.question import NoEvidenceError, NoRunsFromError, UnknownNameError, UnknownUpstreamError
from advisor.answer.recommend import Question, recommend
from advisor.text.explanation import explain
from advisor.text.explanation_text import to_text
from advisor.text.no_runs import NothingFromNetworkError, with_published
from advisor.text.table import to_table
from studies.collection.collect import make_curves
from studies.files.curve import PooledCurve
from studies.files.curves import CurvesFile, parse_curves, read_curves
from studies.findings.published import published_of, read_published

NAME, ARCH = "Elsewhere-Net", "net1d"
DESCRIBED = "net1d for chagas; licence MIT; from https://example.org; its pre-training was not controlled here"


@pytest.fixture(scope="module")
def document(curves_path: Path) -> dict:
    """The synthetic evidence, with a task of another network that started from somebody else's."""
    document = json.loads(curves_path.read_text())
    ours = next(curve for curve in document["curves"] if curve["arch"] == "resnet1d18-w16")
    theirs = copy.deepcopy(ours) | {"arch": ARCH, "upstream": f"zoo:{NAME}", "task": "ludb"}
    theirs.pop("kind", None)
    document["networks"][ARCH] = {"family": "cnn", "parameters": 1000}
    document["upstreams"][f"zoo:{NAME}"] = DESCRIBED
    document["curves"].append(theirs)
    return document


@pytest.fixture
def curves(document: dict) -> CurvesFile:
    return parse_curves(document)


def with_pool(
    document: dict, upstream: str, tasks: tuple[str, ...] = ("ludb", "ptb/diagnosis", "chagas")
) -> CurvesFile:
    """The evidence with that many tasks from an upstream, and their pool."""
    document = copy.deepcopy(document)
    one = document["curves"][-1]
    document["curves"] += [one | {"task": task} for task in tasks[1:]]
    document["curves"].append(one | {"pooled": True, "tasks": list(tasks), "task": "a new task", "points": {}})
    return parse_curves(document)


@pytest.mark.parametrize("name", [NAME, f"zoo:{NAME}", "elsewhere-net", "ZOO:ELSEWHERE-NET"])
@pytest.mark.parametrize("arch", [None, ARCH, "cnn", "NET1D"])
def test_a_network_is_asked_about_by_its_name_and_brings_its_architecture(name, arch, curves: CurvesFile):
    answer = recommend(Question(500, arch, upstream=name), curves)
    assert (answer.curve.arch, answer.curve.upstream, answer.networks) == (ARCH, f"zoo:{NAME}", ())


def test_another_architecture_than_the_network_s_is_said(curves: CurvesFile):
    for arch in ("gru-w32", "rnn", "resnet1d18-w16"):
        with pytest.raises(UnknownNameError, match=f"{NAME} is {ARCH}: leave out --arch {arch}"):
            recommend(Question(500, arch, upstream=NAME), curves)


def test_the_answer_says_that_the_pretraining_was_not_controlled_and_on_how_few_tasks_it_rests(
    curves: CurvesFile, document: dict, curves_path: Path
):
    answer = recommend(Question(500, upstream=NAME), curves)
    assert f"Fine-tuning starts from {NAME}, whose pre-training was not controlled here." in answer.warnings
    assert f"Runs from {NAME} are of 1 task." in answer.warnings
    text = to_text(answer, explain(answer, curves_path))
    assert f"From {NAME}: {DESCRIBED}." in " ".join(text.split())
    assert "Not measured: answers from a network that no run of the study pre-trained are not held out." in " ".join(
        text.split()
    )
    assert len(to_table(answer).splitlines()) <= 24
    two = replace(curves, curves=(*curves.curves, replace(curves.curves[-1], task="chagas")))
    few = f"Runs from {NAME} are of 2 tasks (chagas, ludb), too few to say how far others differ."
    assert few in recommend(Question(500, upstream=NAME), two).warnings
    pooled = recommend(Question(500, upstream=NAME), with_pool(document, f"zoo:{NAME}"))
    assert isinstance(pooled.curve, PooledCurve)
    assert any("judged from 3 tasks of 3 sources" in warning for warning in pooled.warnings)
    assert not any("too few" in warning for warning in pooled.warnings)
    ours = replace(curves, upstreams={f"zoo:{NAME}": "net1d, pre-trained here on ptb-xl/all"})
    assert not any("controlled" in warning for warning in recommend(Question(500, upstream=NAME), ours).warnings)


def test_nothing_answers_from_it_unasked(document: dict, curves: CurvesFile):
    for file in (curves, with_pool(document, f"zoo:{NAME}")):
        answer = recommend(Question(500), file)
        assert ARCH not in {row.arch for row in answer.networks}
        assert not any(name in warning for warning in answer.warnings for name in (ARCH, NAME)), "few have it"
    both = copy.deepcopy(document)
    both["curves"].append(both["curves"][-1] | {"upstream": "ptb-xl/all", "runs": 2})  # fewer runs than from the other
    file = parse_curves(both)
    for upstream in (None, "none"):
        assert recommend(Question(500, ARCH, upstream=upstream), file).curve.upstream == "ptb-xl/all"
    assert recommend(Question(500, ARCH, upstream=NAME), file).curve.upstream == f"zoo:{NAME}"
    alone = replace(curves, curves=tuple(one for one in curves.curves if one.arch == ARCH))
    assert recommend(Question(500), alone).curve.upstream == f"zoo:{NAME}"  # it is all there is


def test_it_is_not_named_to_who_asks_about_the_same_task(document: dict):
    document = copy.deepcopy(document)
    document["curves"][-1]["task"] = document["curves"][0]["task"]
    for upstream in (None, "none", NAME):
        answer = recommend(
            Question(500, None if upstream == NAME else "resnet1d18-w16", upstream=upstream), parse_curves(document)
        )
        assert not any("Measured too" in one for one in answer.warnings)


@pytest.mark.parametrize("name", ["ECGFounder", "ecg-fm", "HuBERT-ECG-base", "zoo:stmem", "xECG"])
@pytest.mark.parametrize("arch", [None, "cnn"])
def test_a_network_without_runs_has_no_answer_and_what_is_published_is_told(name: str, arch, curves: CurvesFile):
    with pytest.raises(NoRunsFromError) as raised:
        recommend(Question(500, arch, upstream=name), curves)
    error = with_published(raised.value, curves)
    assert isinstance(error, NothingFromNetworkError)
    assert isinstance(error, NoEvidenceError)
    said, told = str(error), error.document["no_evidence"]
    assert said.startswith(
        f"no run of the evidence starts from {error.network}, and no curve of another network stands"
    )
    assert f"ecgadvise recommend --data DIR --from {error.network.lower()} --pilot" in said
    assert "ecgadvise zoo add FILE --name" in said
    assert (told["network"], told["is_there"], told["message"]) == (error.network, False, said)
    rows = published_of(error.network, read_published())
    assert [row["fine_tuned"] for row in told["published"]] == [score.value for score, _ in rows]
    compared = [row for row in told["published"] if row["compared"] is not None]
    if not compared:
        assert "nothing published of it is known here" in said
    for row in compared[:1]:
        assert row["source"] in said
        n_higher = sum(one["fine_tuned"] > one["compared"] for one in compared if one["source"] == row["source"])
        assert f"higher in {n_higher} of " in said
    shown = said.count(" against ") - said.count("fine-tuned against from scratch")
    assert shown == min(3, len({row["task"] for row in compared})) * len({row["source"] for row in compared})


def test_a_name_that_nobody_knows_is_still_a_mistake(curves: CurvesFile):
    with pytest.raises(UnknownUpstreamError, match="no resnet1d18-w16 was pre-trained on 'mimic'") as raised:
        recommend(Question(500, "cnn", upstream="mimic"), curves)
    assert with_published(raised.value, curves) is raised.value
    assert raised.value.exit_code == 2


def test_a_network_of_the_zoo_is_told_by_its_name_alone(curves: CurvesFile, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("ECGADVISE_ZOO", str(tmp_path))
    (tmp_path / "theirs").mkdir()  # asked about in any case of its letters
    (tmp_path / "theirs" / "checkpoint.json").write_text('{"task": "chagas"}')
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "checkpoint.json").write_text("{")
    with pytest.raises(UnknownUpstreamError) as raised:
        recommend(Question(500, upstream="Theirs"), curves)
    error = with_published(raised.value, curves, Path("my ward"))
    assert str(error).endswith("ecgadvise recommend --data 'my ward' --from theirs --pilot")
    with pytest.raises(UnknownUpstreamError) as unknown:
        recommend(Question(500, upstream="damaged"), curves)
    assert with_published(unknown.value, curves) is unknown.value


def test_a_released_network_names_the_upstream_that_answers(command):
    code, out, err = command("recommend", "--n-records", "500", "--upstream", "resnet1d18-w16-ptbxl")
    assert (code, out) == (4, "")
    assert "was pre-trained on ptb-xl/all, and --upstream ptb-xl/all answers" in err


def test_json_has_every_published_score_and_python_gets_them_too(command):
    code, out, err = command("recommend", "--n-records", "500", "--upstream", "ecgfounder", "--json")
    assert code == 4
    told = json.loads(out)
    assert told["schema_version"] == 1
    assert len(told["no_evidence"]["published"]) == 23
    assert err == f"error: {told['no_evidence']['message']}\n"
    with pytest.raises(NothingFromNetworkError) as raised:
        ecgadvise.recommend(500, upstream="ecgfounder")
    assert raised.value.document == told


def test_curves_of_one_pretrained_network_are_never_pooled_with_those_of_tasks(synthetic_run, tmp_path: Path):
    runs = []
    for k, (task, upstream) in enumerate(
        (task, upstream) for task in ("a/x", "b/x", "c/x") for upstream in ("zoo:theirs", "ptb-xl/all")
    ):
        for n in (100, 250, 500):
            for replicate in range(3):
                for arm in ("scratch", "fine-tune"):
                    if arm == "scratch" and upstream == "ptb-xl/all":
                        continue  # the runs from scratch are the same ones, read the same way
                    score = 0.9 - 2 * n**-0.5 + 0.01 * (arm == "fine-tune") + 0.001 * replicate + 0.002 * k
                    run = synthetic_run("resnet1d18-w16", arm, n, replicate, score)
                    said = {"started_from": "theirs; weights 0123456789ab"} if upstream == "zoo:theirs" else {}
                    of = upstream if arm == "fine-tune" else None
                    spec = run.details["spec"] | {"task": task, "upstream": of}
                    runs.append(replace(run, task=task, upstream=of, key=f"{task}{of}{n}{replicate}{arm}",
                                        details=run.details | {"spec": spec} | (said if of else {})))  # fmt: skip
    document = make_curves(runs, "both")
    pools = {curve["upstream"]: curve["tasks"] for curve in document["curves"] if curve.get("pooled")}
    assert set(pools) == {"zoo:theirs", "ptb-xl/all"}
    assert set(map(len, pools.values())) == {3}
    assert document["upstreams"]["zoo:theirs"] == "theirs; weights 0123456789ab"
    file = parse_curves(json.loads(json.dumps(document)))
    assert recommend(Question(300), file).curve.upstream != "zoo:theirs"
    assert recommend(Question(300, upstream="theirs"), file).curve.upstream == "zoo:theirs"


def test_runs_from_scratch_are_paired_with_those_that_read_the_records_alike(synthetic_run):
    runs, reading = [], "V1+V2 at 400 Hz, crops of 800, scaled by lead"
    for upstream, how, lift in (("zoo:theirs", reading, 0.2), ("ptb-xl/all", "", 0.0)):
        for n in (100, 250, 500):
            for replicate in range(2):
                for arm in ("scratch", "fine-tune"):
                    of = upstream if arm == "fine-tune" else None
                    run = synthetic_run("resnet1d18-w16", arm, n, replicate, 0.6 + lift + 0.01 * replicate)
                    spec = run.details["spec"] | {"upstream": of} | ({"reading": how} if how else {})
                    runs.append(replace(run, upstream=of, key=f"{upstream}{n}{replicate}{arm}",
                                        details=run.details | {"spec": spec}))  # fmt: skip
    points = {curve["upstream"]: curve["points"]["scratch"]["100"] for curve in make_curves(runs, "both")["curves"]}
    assert points == {"zoo:theirs": [0.8, 0.81], "ptb-xl/all": [0.6, 0.61]}


def test_what_is_published_is_read_without_the_training_stack(curves_path: Path):
    import subprocess

    code = (
        "import sys; sys.argv = 'ecgadvise recommend --n-records 500 --upstream ECGFounder --json'.split()\n"
        "from advisor.cli import main\n"
        "try: main()\n"
        "except SystemExit as ended: assert ended.code == 4\n"
        "loaded = {'torch', 'pandas', 'scipy', 'sklearn', 'statsmodels', 'wfdb', 'safetensors'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert read_curves(curves_path)
