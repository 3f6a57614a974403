"""What a job can be asked for, and the command that each request becomes."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from advisor.cli import build_app
from advisor.service.jobs.commands import Commands, check_design
from advisor.service.jobs.job import Job, State
from advisor.service.jobs.kinds import JobRequest, datasets_of, key_of
from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore

DESIGNS = Path(__file__).parents[4] / "studies" / "designs"
REQUESTS = TypeAdapter(JobRequest)
DATASET, MODEL = "d0123456789ab", "m0123456789ab"
DESIGN = (Path(__file__).parents[4] / "tests" / "advisor" / "tiny.toml").read_text()


def request(**given: object) -> JobRequest:
    return REQUESTS.validate_python({"dataset": DATASET, **given})


def words_of(store: ServiceStore, asked: JobRequest, **settings: object) -> list[str]:
    commands = Commands(store, Settings(store.root, **settings), lambda dataset: Path("/records") / dataset)
    folder = store.jobs / "j0"
    folder.mkdir(exist_ok=True)
    job = Job("j0", asked.kind, DATASET, MODEL, {}, State.QUEUED, "", None, None, "", 0, 0, None, None, None, folder)
    return commands.words(job, asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "pilot", "labels": "--force"},
        {"kind": "pilot", "labels": "AF\n--force"},
        {"kind": "pilot", "labels": " "},
        {"kind": "pilot", "arch": "-w4"},
        {"kind": "pilot", "from_network": "../../etc"},
        {"kind": "pilot", "from_network": "/etc/passwd"},
        {"kind": "pilot", "minutes": float("nan")},
        {"kind": "pilot", "minutes": 0},
        {"kind": "pilot", "margin": 1},
        {"kind": "pilot", "seed": 10**30},
        {"kind": "pilot", "store": "/tmp"},
        {"kind": "train", "strategy": "guess"},
        {"kind": "train", "recipe": "none such"},
        {"kind": "train", "labels": "x" * 4001},
        {"kind": "train", "labels": "\ud800"},
        {"kind": "check", "dataset": "../d0123456789ab"},
        {"kind": "check", "dataset": "d0123456789ab\n"},
        {"kind": "nothing"},
        {},
    ],
)
def test_what_is_no_value_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        request(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"design": DESIGN, "datasets": {"../up": DATASET}},
        {"design": DESIGN, "datasets": {"mine": "/etc"}},
        {"design": "#" * 20_001},
    ],
)
def test_a_study_names_datasets_and_a_design_has_an_end(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        REQUESTS.validate_python({"kind": "study", **wrong})


@pytest.mark.parametrize(
    "design",
    [
        ".".join("a" * 9_000) + " = 1",
        "[" + ".".join("a" * 9_000) + "]",
        '"=" . "#' + "'\" . " + " . ".join("a" * 100) + " = 1",
        "'=,\"' . " + ".".join("a" * 100) + " = 1",
        "x = {y = 1, " + ".".join("a" * 9_000) + " = 1}",
        "x = " + "[" * 9_000 + "]" * 9_000,
        "x = " + "{x = " * 30 + "1" + "}" * 30,
        "x = [\n" + "[\n" * 30 + "]\n" * 30 + "]",
    ],
)
def test_a_design_that_takes_long_to_parse_is_refused_unparsed(monkeypatch, design: str):
    monkeypatch.setattr("tomllib.loads", lambda _text: pytest.fail("it was parsed"))
    with pytest.raises(ValidationError, match=r"has more than 40 dots|stand in more than 20 others"):
        REQUESTS.validate_python({"kind": "study", "design": design})


def test_a_request_for_a_study_is_not_parsed_where_it_is_validated(monkeypatch):
    """That is done on the loop which answers everybody."""
    monkeypatch.setattr("tomllib.loads", lambda _text: pytest.fail("it was parsed"))
    dotted = DESIGN + "# " + 50 * "." + "\nnote = '" + 50 * "." + "'\nrates = [" + ", ".join(["0.1"] * 50) + "]\n"
    for design in (DESIGN, dotted, *(path.read_text() for path in DESIGNS.glob("*.toml"))):
        assert REQUESTS.validate_python({"kind": "study", "design": design}).design == design


@pytest.mark.parametrize(
    ("design", "said"),
    [
        ('name = "a"', "the design: missing key"),
        ("name = [", "the design is not TOML"),
        (DESIGN + '\n[data]\nmine = "/etc"\n', "a design names no directories here"),
        (DESIGN.replace("ptb-xl/superclass", "../../etc/labels"), "a task whose corpus is not named by letters"),
        (DESIGN.replace("ptb-xl/superclass", "/etc/labels"), "a task whose corpus is not named by letters"),
    ],
)
def test_a_design_that_cannot_be_run_is_refused_before_it_is_a_job(tmp_path: Path, design: str, said: str):
    with pytest.raises(Problem, match=said) as refused:
        check_design(design, tmp_path)
    assert refused.value.status == 422
    assert str(tmp_path) not in refused.value.detail
    assert list(tmp_path.iterdir()) == []
    check_design(DESIGN, tmp_path)


def test_the_same_work_has_one_key_however_it_is_written():
    assert key_of(request(kind="pilot")) == key_of(request(kind="pilot", minutes=10, margin=0.01))
    others = [request(kind="pilot", minutes=5), request(kind="pilot", dataset="d000000000000"), request(kind="train")]
    assert len({key_of(other) for other in [request(kind="pilot"), *others]}) == 4


def test_every_value_stays_a_value(store: ServiceStore):
    asked = request(kind="pilot", labels="a --pilot-store=/etc", n_records=500, upstream="ptb-xl/all", arch="cnn")
    words = words_of(store, asked)
    assert words[:4] == ["recommend", f"--data=/records/{DATASET}", "--pilot", "--json"]
    assert "--labels=a --pilot-store=/etc" in words
    assert all(word.startswith("--") for word in words[1:])
    assert {"--minutes=10.0", "--margin=0.01", "--n-records=500", "--arch=cnn", "--upstream=ptb-xl/all"} < set(words)


def test_a_training_goes_on_where_something_of_it_is_there(store: ServiceStore):
    out = store.models / MODEL / "checkpoint"
    asked = request(kind="train", strategy="scratch")
    assert not {"--resume", "--force"} & set(words_of(store, asked))
    out.mkdir(parents=True)
    assert words_of(store, asked)[-1] == "--force"
    (out / "resume.json").touch()
    assert words_of(store, asked)[-1] == "--resume"
    out.rename(out.with_name(".checkpoint.0a1b2c3d.old"))
    assert words_of(store, asked)[-1] == "--resume"
    assert f"--out={out}" in words_of(store, asked)


def test_a_model_that_is_here_is_started_from_by_its_id(store: ServiceStore):
    asked = request(kind="train", from_network="resnet1d18-w16-ptbxl")
    assert "--from=resnet1d18-w16-ptbxl" in words_of(store, asked)
    (store.models / MODEL / "checkpoint").mkdir(parents=True)
    asked = request(kind="train", from_network=MODEL)
    assert f"--from={store.models / MODEL / 'checkpoint'}" in words_of(store, asked)


def test_pilots_and_studies_run_on_the_operators_cluster(store: ServiceStore):
    study = REQUESTS.validate_python({"kind": "study", "design": DESIGN, "datasets": {"mine": DATASET}})
    assert datasets_of(study) == (DATASET,)
    words = words_of(store, study, scheduler="tcp://scheduler:8786")
    assert words[-3:] == [f"--data=mine=/records/{DATASET}", "--executor=dask", "--scheduler=tcp://scheduler:8786"]
    assert "--scheduler=tcp://scheduler:8786" in words_of(
        store, request(kind="pilot"), scheduler="tcp://scheduler:8786"
    )
    assert "--executor=dask" not in words_of(store, study)
    assert Path(words[2]).read_text() == DESIGN


def test_the_command_line_takes_every_command_that_jobs_are(store: ServiceStore):
    """Parsed by the command line itself: an option that is renamed there is found here."""
    import typer.main

    everything = {
        "labels": "A,B", "n_records": 50, "arch": "cnn", "from_network": "net", "test_fraction": 0.2, "test_seed": 1,
    }  # fmt: skip
    study = REQUESTS.validate_python({"kind": "study", "design": DESIGN, "datasets": {"mine": DATASET}})
    asked = [
        request(kind="check"),
        request(kind="pilot", target=0.9, label_cost=1, gpu_cost=2, upstream="u", **everything),
        request(kind="train", recipe="tuned", at_specificity=0.9, prevalence="0.02", **everything),
        REQUESTS.validate_python({"kind": "export", "model": MODEL, "fp16": True}),
        study,
    ]
    for one in asked:
        for settings in ({}, {"scheduler": "tcp://a:1", "curves": Path("curves.json")}):
            words = words_of(store, one, **settings)
            command = typer.main.get_command(build_app(words[0]))
            context = command.make_context("ecgadvise", list(words), resilient_parsing=False)
            _name, sub, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            sub.make_context(words[0], rest, parent=context)
