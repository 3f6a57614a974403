"""``recommend --report``: one page that stands alone, whose numbers are those of ``--json``."""

import base64
import copy
import hashlib
import json
import re
import shlex
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from advisor.answer.recommend import Question, recommend
from advisor.text.curve_lines import score_ticks, size_ticks
from studies.files.curves import read_curves
from studies.files.shipped import DEFAULT_CURVES

Command = Callable[..., tuple[int, str, str]]
VOID = {"meta", "link", "input", "br", "hr", "img"}
SECTIONS = ("scores", "curves", "changes", "cost", "warnings", "question", "facts", "backtest", "evidence", "limits",
            "provenance")  # fmt: skip
QUESTIONS = [
    "--n-records 5000 --arch cnn",
    "--n-records 25 --arch rnn",
    "--n-records 8000",
    "--n-records 300 --upstream none --label-cost 2.5 --gpu-cost 3 --uses 4 --target 0.9",
    "--n-records 1000 --arch cnn --target 0.99 --label-cost 1e12",
    "--n-records 2000 --arch resnet1d18-w16 --task ptb-xl/superclass --uses 1 --device-speed 900.5 --margin 0.5",
]


class Page(HTMLParser):
    """A page taken apart; a tag that is not closed, or closes nothing, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.attributes.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"path", "rect", "circle"}, f"{tag} cannot close itself in HTML"
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] or "" for _, attributes in self.attributes if name in attributes]

    def data(self, name: str) -> Any:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == name)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def make(command: Command, tmp_path: Path) -> Callable[..., str]:
    """Ask a question for a page, and return the page."""

    def ask(question: str, *more: object) -> str:
        code, _, err = command("recommend", *shlex.split(question), *more, "--report", tmp_path / "out.html")
        assert (code, err) == (0, f"report: {tmp_path / 'out.html'}\n")
        return (tmp_path / "out.html").read_text(encoding="utf-8")

    return ask


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_page_is_well_formed_and_asks_for_nothing(question: str, make):
    text = make(question)
    page = Page(text)
    assert len(text.encode()) < 500_000
    identities = page.all("id")
    assert len(set(identities)) == len(identities)
    assert {*SECTIONS} <= {*identities}
    for reference in " ".join([*page.all("aria-labelledby"), *page.all("for")]).split():
        assert reference in identities
    assert page.all("href") == ["data:,"]
    assert not {"src", "srcset", "data", "action", "poster", "xlink:href"} & {n for _, a in page.attributes for n in a}
    style = text[text.index("<style>") : text.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face|https?:", style)
    assert not re.search(r"https?:", " ".join(text for kind, text in page.scripts if "type" not in kind))


@pytest.mark.parametrize("question", QUESTIONS)
def test_its_policy_allows_its_own_script_and_nothing_else(question: str, make):
    page = Page(make(question))
    (script,) = [text for attributes, text in page.scripts if attributes == {}]
    assert {a.get("type") for a, _ in page.scripts} == {None, "application/json"}
    policy = next(a["content"] for t, a in page.attributes if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert not [name for _, attributes in page.attributes for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_numbers_of_the_page_are_those_of_json(question: str, make, command: Command):
    page = Page(make(question))
    answer = json.loads(command("recommend", *shlex.split(question), "--json", "--explain")[1])
    assert page.data("answer") == answer
    assert answer["why"] in page.text
    for warning in answer["warnings"]:
        assert warning in page.text
    for limit in answer["explanation"]["limits"]:
        assert limit in page.text
    for arm in ("scratch", "fine_tune", "gain"):
        for bound in ("mean", "mean_ci_lower", "mean_ci_upper"):
            value = answer[arm][bound]
            sign = "+" if arm == "gain" else ""
            nearby = {f"{value + shift:{sign}.3f}" for shift in (-4e-5, 0, 4e-5)}  # JSON has rounded it once before
            assert any(word in page.text for word in nearby), (arm, bound)
    worth = answer["worth_in_records"]
    told = "lower" if worth["upper"] is None and (worth["lower"] or 0) < 0 else "median"
    for value in (worth[told], answer["break_even"]["lower"]):
        assert (
            value is None
            or f"{value:,.0f}" in page.text
            or f"under {min(answer['evidence']['sizes']) / 4:,.0f}" in page.text
        )
    assert (f"target {answer['target']['score']:g}" in page.text) if answer["target"] else "target 0" not in page.text
    assert ("money" in page.text.split("What to keep in mind")[0]) == (answer["money"] is not None)
    assert ("Which network" in page.text) == bool(answer["networks"])


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_chart_reads_out_the_answer_at_the_asker_s_number(question: str, make, command: Command):
    text = make(question)
    page = Page(text)
    answer = json.loads(command("recommend", *shlex.split(question), "--json")[1])
    document = page.data("rows")
    rows, yours = document["rows"], document["rows"][document["yours"]]
    assert yours["n"] == answer["question"]["n_records"]
    assert yours["tuned"] == pytest.approx(answer["fine_tune"]["mean"], abs=6e-5)
    assert yours["scratch"] == pytest.approx(answer["scratch"]["mean"], abs=6e-5)
    assert yours["words"][-1] == answer["support"]
    for position, word in enumerate(yours["words"]):
        assert f'data-word="{position}">{word}<' in text
    assert [row["n"] for row in rows] == sorted({row["n"] for row in rows})
    sizes = answer["evidence"]["sizes"]
    low, high = min(sizes), max(sizes)
    assert {*sizes} <= {row["n"] for row in rows}
    for size in (*sizes, yours["n"]):
        assert f'<tr><th scope="row">{size:,}</th>' in text, "the table has every measured size"
    assert all(low / 4 <= row["n"] <= high * 4 for row in rows)
    for _, chart in ((t, a) for t, a in page.attributes if "data-first" in a):
        assert float(chart["data-first"] or 0) <= yours["n"] <= float(chart["data-last"] or 0) + 1e-3
        assert float(chart["data-bottom"] or 0) < yours["scratch"] < float(chart["data-top"] or 0)


def test_the_chart_has_both_arms_their_runs_and_what_lies_beyond_them_dashed(make, command: Command):
    question = "--n-records 5000 --arch cnn --task ptb-xl/superclass"
    page = Page(make(question))
    kinds = [a.get("class") or "" for tag, a in page.attributes if tag in {"path", "rect", "circle"}]
    for chart in (1, 2):  # one for a wide screen, one for a narrow one
        for arm in ("tuned", "scratch"):
            for kind in (f"band {arm}", f"points {arm}", f"cross {arm}"):
                assert kinds.count(kind) >= 2, (chart, kind)
            of_gains = 4 * (arm == "tuned")  # of scratch over itself there is nothing to draw
            assert kinds.count(f"line {arm} beyond") == 4 + of_gains  # left and right of what was measured
    answer = json.loads(command("recommend", *shlex.split(question), "--json")[1])
    of_pair = ("points tuned", "points scratch")
    drawn = [a["d"] for tag, a in page.attributes if a.get("class") in of_pair and len(a["d"]) > 99]
    assert [d.count("M") for d in drawn] == [answer["evidence"]["runs"] // 2] * 4
    assert f"break-even {answer['break_even']['median']:,.0f}" in page.text
    assert [tag for tag, _ in page.attributes].count("title") == 5  # the page's and each chart's
    assert [tag for tag, _ in page.attributes].count("desc") == 4


@pytest.mark.parametrize("margin", [0.01, 0.1])
def test_the_first_figure_is_what_the_arms_gain_with_the_band_of_the_best(make, four_arms_path: Path, margin: float):
    page = Page(make(f"--n-records 300 --arch cnn --curves {four_arms_path} --margin {margin}"))
    charts = [a["class"] for tag, a in page.attributes if tag == "svg" and "class" in a]
    assert charts == ["gains wide", "gains narrow", "chart wide", "chart narrow"]
    answer = page.data("answer")
    for one in answer["arms"]:
        if one["strategy"] != "scratch":
            mean, low, high = (one["difference"][name] for name in ("mean", "mean_ci_lower", "mean_ci_upper"))
            assert f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" in page.text
    kinds = [a.get("class") or "" for tag, a in page.attributes if tag in {"path", "rect"}]
    first = kinds[: kinds.index("margin") + 20]
    assert (
        first.count("band probe") == 1 and "band tuned" not in first and "linear probe, with its 90 % band" in page.text
    )
    heights = [float(a["height"] or 0) for tag, a in page.attributes if a.get("class") == "margin" and "x" in a]
    assert len(heights) == 2 and all(height > 0 for height in heights)


def test_a_page_of_four_arms_names_the_best_first_and_tells_them_apart_without_colour(make, four_arms_path: Path):
    text = make(f"--n-records 300 --arch cnn --curves {four_arms_path} --label-cost 2 --gpu-cost 3")
    page = Page(text)
    answer = page.data("answer")
    assert page.text.index("TRAIN A LINEAR PROBE") < page.text.index("FINE-TUNE")
    assert answer["best"] == "linear-probe"
    for one in answer["arms"]:
        assert f"{one['score']['mean']:.3f}" in page.text and f"{one['expected_loss']['upper']:.3f}" in page.text
    style = text[text.index("<style>") : text.index("</style>")]
    shapes = set()
    for kind in ("tuned", "scratch", "probe", "kernels"):
        drawn = [a["d"] for t, a in page.attributes if t == "path" and a.get("class") == f"points {kind}"]
        assert len(drawn) >= 2 and all(drawn), "in both charts"
        shapes.add(re.sub(r"^M[\d. ]+", "", drawn[0].split("z")[0]))
        assert f".{kind} {{ --tone: var(--{kind})" in style
    assert len(shapes) == 4
    assert re.search(r"\.line\.probe \{ stroke-dasharray", style) and re.search(r"\.line\.kernels \{", style)
    for row in page.data("rows")["rows"]:
        assert {"tuned", "scratch", "probe", "kernels"} <= set(row)


def test_names_from_files_are_text_and_nothing_else(curves_path: Path, tmp_path: Path, make):
    name = "</script><script>alert(1)</script>\" onload='x' & <b>\u202e"
    document = json.loads(curves_path.read_text())
    document["study"] = document["version"] = document["created"] = name
    document["curves"] = document["curves"][:1]
    old = document["curves"][0]["arch"]
    document["networks"] = {name: document["networks"][old]}
    document["curves"][0] |= {"task": name, "tasks": [name], "arch": name, "upstream": name, "warnings": [name]}
    document["upstreams"] = {name: name}
    document["curves"][0]["provenance"]["source"] = {"name": name, "version": name, "licence": name, "url": name}
    for arm in ("scratch", "fine-tune", "pretraining"):
        document["curves"][0]["cost"][arm]["device"] = name
    (tmp_path / "curves.json").write_text(json.dumps(document))
    page = Page(make(f"--n-records 500 --arch {shlex.quote(name)}", "--curves", tmp_path / "curves.json"))
    plain = Page(make("--n-records 500 --arch cnn", "--curves", curves_path))
    assert [tag for tag, _ in page.attributes].count("b") == 0
    assert [a for a, _ in page.scripts] == [a for a, _ in plain.scripts]
    assert page.data("answer")["question"]["arch"] == name
    assert page.text.count("<script>alert(1)</script>") > 10


def test_control_characters_do_not_reach_the_page(make, tmp_path: Path, curves_path: Path):
    from advisor.report.html import text

    assert text("a\x00b\x1b[31mc\ud800\x9f") == "a\ufffdb\ufffd[31mc?\ufffd"


def test_a_pool_is_drawn_with_the_means_of_its_tasks(curves_path: Path, tmp_path: Path, make):
    document = json.loads(curves_path.read_text())
    first = document["curves"][0]
    tasks = ["ptb-xl/superclass", "ptb-xl/form", "ludb"]
    singles = [{**copy.deepcopy(first), "task": task} for task in tasks]
    pool = {**copy.deepcopy(first), "pooled": True, "tasks": tasks, "task": "pooled", "points": {}}
    (tmp_path / "curves.json").write_text(json.dumps({**document, "curves": [*singles, pool]}))
    page = Page(make(f"--n-records 500 --arch {first['arch']}", "--curves", tmp_path / "curves.json"))
    assert page.data("answer")["pooled"] is True
    of_pair = ("points tuned", "points scratch")
    drawn = [a["d"] for _, a in page.attributes if a.get("class") in of_pair and len(a["d"]) > 99]
    assert [d.count("M") for d in drawn] == [3 * len(first["sizes"])] * 4
    assert "mean of one task" in page.text
    assert "pooled over tasks by random effects" in page.text


def test_what_was_not_measured_is_said(curves_path: Path, tmp_path: Path, make):
    document = json.loads(curves_path.read_text())
    for curve in document["curves"]:
        del curve["cost"], curve["provenance"]
    (tmp_path / "curves.json").write_text(json.dumps(document))
    page = Page(make("--n-records 500 --arch cnn --label-cost 2 --gpu-cost 3", "--curves", tmp_path / "curves.json"))
    assert "The runs say nothing of what they cost." in page.text
    assert "Not measured: no backtest.json next to the curves file" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text.split()


def test_a_page_names_the_labels_that_its_scores_are_of(make):
    page = Page(make("--n-records 1000 --arch cnn --labels AF:0.04,LBBB:0.021"))
    assert "Scores are of records with these labels: AF 4 %, LBBB 2.1 %." in page.text
    assert "not their leads, quality" in page.text
    assert "these labels" not in Page(make("--n-records 1000 --arch cnn")).text


def test_what_a_pre_training_costs_is_never_a_negative_saving(make):
    page = Page(make("--n-records 4000 --arch cnn --task ptb-xl/superclass --label-cost 1 --gpu-cost 1000000 --uses 1"))
    assert "It is expected to cost" in page.text
    assert "save -" not in page.text


def test_a_page_says_where_it_comes_from(make):
    page = Page(make("--n-records 5000 --arch cnn --margin 0.02"))
    assert hashlib.sha256(DEFAULT_CURVES.read_bytes()).hexdigest() in page.text
    assert "ecgadvise recommend --n-records 5000 --arch cnn --margin 0.02 --report" in page.text
    curves = read_curves(DEFAULT_CURVES)
    for word in (
        curves.study,
        curves.created,
        curves.version,
        "numpy",
        "For model development and research only, not for patient care",
    ):
        assert word in page.text
    for title in ("Summary", "Mechanism", "Validation and performance", "Uses and directions", "Warnings",
                  "Other information"):  # fmt: skip
        assert title in page.text


def test_the_table_beside_the_chart_agrees_with_asking_at_its_numbers(make):
    page = Page(make("--n-records 700 --arch cnn"))
    curves = read_curves(DEFAULT_CURVES)
    for row in page.data("rows")["rows"][3::17]:
        asked = recommend(Question(row["n"], "cnn"), curves)
        tuned, scratch, gain = asked.fine_tune, asked.scratch, asked.gain
        assert [*row["words"][1:5], *row["words"][-4:-2]] == [
            f"{tuned.mean:.3f}", f"{tuned.mean_ci_lower:.3f} to {tuned.mean_ci_upper:.3f}",
            f"{scratch.mean:.3f}", f"{scratch.mean_ci_lower:.3f} to {scratch.mean_ci_upper:.3f}",
            f"{gain.mean:+.3f}", f"{gain.mean_ci_lower:+.3f} to {gain.mean_ci_upper:+.3f}",
        ]  # fmt: skip
        assert row["words"][-1] == asked.support


def refused(ended: tuple[int, str, str], code: int) -> str:
    assert ended[0] == code, ended
    assert ended[1] == ""
    assert re.fullmatch(r"error: [^\n]+\n", ended[2]), ended[2]
    return ended[2]


def test_a_refused_question_leaves_what_is_there(tmp_path: Path, command: Command):
    target = tmp_path / "out.html"
    question = "recommend", "--arch", "cnn", "--report", target, "--plot", tmp_path / "out.svg", "--n-records"
    refused(command(*question, 90_000), 4)
    refused(command(*question, 0), 2)
    assert list(tmp_path.iterdir()) == []
    target.write_text("mine")
    refused(command(*question, 90_000), 4)
    assert target.read_text() == "mine"
    assert command(*question, 900)[0] == 0
    assert target.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "out.svg"]


@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_a_target_that_cannot_be_written_is_named(option: str, tmp_path: Path, command: Command):
    question = "recommend", "--n-records", 500, "--arch", "cnn", option
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "folder.html", tmp_path / "file" / "none" / "x.html", tmp_path / "file" / "x.html",
                   tmp_path / ("x" * 300 + ".html"), Path("/proc/x.html")):  # fmt: skip
        said = refused(command(*question, target), 1)
        assert f"cannot write {target}: " in said
        assert "None" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.html"]
    for name in ("x", "x.pdf", ".html", "", "x.HTML "):
        assert f"{option} is {Path(name)}: its ending must be one of" in refused(command(*question, name), 2)


@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_the_folder_that_a_link_points_into_is_not_made(option: str, tmp_path: Path, command: Command):
    link, folder = tmp_path / "link.html", tmp_path / "none"
    link.symlink_to(folder / "x.html")
    said = refused(command("recommend", "--n-records", 500, "--arch", "cnn", option, link), 1)
    assert f"cannot write {link}: there is no folder {folder}" in said
    assert [path.name for path in tmp_path.iterdir()] == ["link.html"]


def test_of_two_files_both_are_written_or_none(tmp_path: Path, command: Command):
    page, plot = tmp_path / "x.html", tmp_path / "file" / "x.svg"
    plot.parent.write_text("")
    said = refused(command("recommend", "--n-records", 500, "--report", page, "--plot", plot), 1)
    assert f"cannot write {plot}: {plot.parent} is not a folder" in said
    assert list(tmp_path.iterdir()) == [plot.parent]


@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_a_folder_that_is_not_there_is_made(option: str, tmp_path: Path, command: Command):
    target = tmp_path / "new" / "folder" / "x.html"
    assert command("recommend", "--n-records", 500, "--arch", "cnn", option, target)[0] == 0
    assert [path.name for path in target.parent.iterdir()] == ["x.html"]


@pytest.mark.parametrize("option", ["--report", "--plot"])
def test_a_target_that_cannot_be_written_is_found_out_before_a_record_is_read(
    option: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("advisor.own_records.records.open_own", lambda *_: pytest.fail("records were looked for"))
    target = tmp_path / "file" / "x.html"
    target.parent.write_text("")
    said = refused(command("recommend", "--data", tmp_path, "--pilot", option, target), 1)
    assert f"cannot write {target}: {target.parent} is not a folder" in said


def test_one_file_cannot_be_two(tmp_path: Path, command: Command):
    target = tmp_path / "x.html"
    question = "recommend", "--n-records", 500, "--report", target, "--plot", target
    assert "both name" in refused(command(*question), 2)
    assert list(tmp_path.iterdir()) == []


def test_one_file_by_two_names_is_still_one(tmp_path: Path, command: Command):
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("kept")
    link.symlink_to(page)
    said = refused(command("recommend", "--n-records", 500, "--report", page, "--plot", link), 2)
    assert "both name" in said
    assert page.read_text() == "kept"


def test_json_on_stdout_stays_alone(tmp_path: Path, command: Command):
    code, out, err = command("recommend", "--n-records", 500, "--json", "--report", tmp_path / "x.html")
    assert code == 0
    assert json.loads(out)["question"]["n_records"] == 500
    assert err == f"report: {tmp_path / 'x.html'}\n"


def test_ticks_are_the_measured_sizes_and_round_numbers_beyond():
    assert size_ticks((100, 250, 500, 1000, 2000), 87, 8000, 0.1) == [100, 250, 500, 1000, 2000, 5000]
    assert size_ticks((100, 110, 120, 2000), 87, 8000, 0.1) == [100, 200, 500, 1000, 2000, 5000]
    assert size_ticks((1,), 1, 4, 0.1) == [1, 2]
    assert score_ticks(0.6, 0.96) == [0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert score_ticks(0.899, 0.921, most=4) == [0.9, 0.91, 0.92]
