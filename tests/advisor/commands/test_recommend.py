"""``ecgadvise recommend`` as its users meet it: what it prints, what it refuses, what it asks of its input."""

import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advisor.answer.recommend import Question, recommend
from advisor.text.table import LINES, NOTICE, SCREEN, to_table
from studies.files.arms import ARMS
from studies.files.curves import read_curves

SCHEMA = json.loads((Path(__file__).parents[3] / "advisor" / "recommendation.schema.json").read_text())
Command = Callable[..., tuple[int, str, str]]

QUESTIONS = [
    "--n-records 5000 --arch cnn",
    "--n-records 25 --arch rnn",
    "--n-records 8000",
    "--n-records 300 --arch cnn --upstream none",
    "--n-records 300 --upstream none --label-cost 2.5 --gpu-cost 3 --uses 4 --target 0.9",
    "--n-records 1000 --arch cnn --target 0.99 --label-cost 1e12 --gpu-cost 1e12",
    "--n-records 1000 --arch rnn --target 0.51 --label-cost 0 --gpu-cost 0 --device-speed 1e-3",
    "--n-records 2000 --arch resnet1d18-w16 --task ptb-xl/superclass --uses 1 --device-speed 900.5 --margin 0.5",
    "--n-records 1000 --arch cnn --labels AF:0.04,LBBB:0.02,unheard-of:0.3",
    "--n-records 1000 --arch cnn --events 40,12",
    "--n-records 1000 --arch cnn --task-like ptb-xl/superclass",
]


def refused(ended: tuple[int, str, str], code: int) -> str:
    """Assert one sentence on stderr, nothing on stdout, and the exit code."""
    assert ended[0] == code, ended
    assert ended[1] == ""
    assert re.fullmatch(r"error: [^\n]+\n", ended[2]), ended[2]
    return ended[2]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_table_fits_a_terminal_and_says_once_what_it_is_not_for(question: str, command: Command):
    code, out, err = command("recommend", *shlex.split(question))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    asked_more = "--target" in question or "cost" in question or "--arch" not in question
    assert len(lines) <= (SCREEN if asked_more else LINES)
    assert max(map(len, lines)) <= 80
    assert out.count(NOTICE) == 1
    assert lines[0].split("  ")[0] in {arm.advice.upper() for arm in ARMS}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("more", ["", "--explain"])
def test_json_follows_the_schema_and_hangs_together(question: str, more: str, command: Command):
    code, out, err = command("recommend", *shlex.split(question), "--json", *shlex.split(more))
    assert (code, err) == (0, "")
    answer = json.loads(out)
    jsonschema.validate(answer, SCHEMA)
    assert ("explanation" in answer) == bool(more)
    for arm in ("scratch", "fine_tune"):
        assert answer[arm]["mean_ci_lower"] <= answer[arm]["mean"] <= answer[arm]["mean_ci_upper"]
        assert answer[arm]["obs_ci_lower"] <= answer[arm]["mean_ci_lower"]
        assert answer[arm]["mean_ci_upper"] <= answer[arm]["obs_ci_upper"]
    gain = answer["gain"]
    assert gain["mean"] == pytest.approx(answer["fine_tune"]["mean"] - answer["scratch"]["mean"], abs=2e-4)
    assert sum(gain[f"p_{side}_margin"] for side in ("above", "within", "below")) == pytest.approx(1, abs=1e-3)
    assert (answer["target"] is None) == ("--target" not in question)
    assert (answer["money"] is None) == ("-cost" not in question)
    assert bool(answer["networks"]) == ("--arch" not in question)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--n-records 0 --arch cnn", 2, "--n-records is 0"),
        ("--n-records -5 --arch cnn", 2, "--n-records is -5"),
        ("--n-records abc --arch cnn", 2, "'abc' is not a valid int"),
        ("--n-records 1e400 --arch cnn", 2, "1e400"),
        ("--n-records nan --arch cnn", 2, "nan"),
        ("--arch cnn", 2, "--n-records"),
        ("--n-records 500 --arch transfomer", 2, "nearest name is"),
        ("--n-records 500 --arch resnet1d81", 2, "nearest name is 'resnet1d18"),
        ("--n-records 500 --arch ''", 2, "no network is named ''"),
        ("--n-records 500 --arch", 2, "--arch"),
        ("--n-records 500 --arch cnn --metric f2", 2, "no metric 'f2'"),
        ("--n-records 500 --arch cnn --upstream mimic", 2, "'mimic'"),
        ("--n-records 500 --arch cnn --task ptb-xl/supreclass", 2, "nearest name is 'ptb-xl/superclass'"),
        ("--n-records 500 --task ''", 2, "no task ''"),
        ("--n-record 500 --arch cnn", 2, "--n-record"),
        ("--n-records 500 --arch cnn --arch rnn --device-speed 3 --n-records", 2, "--n-records"),
        ("--n-records 500 --device-speed 100", 2, "name it with --arch"),
        ("--n-records 500 --arch resnet1d50", 4, "did not measure resnet1d50"),
        ("--n-records 8001 --arch cnn", 4, "8,001 is outside"),
        ("--n-records 8001", 4, "8,001 is outside"),
        ("--n-records 123456789012345678901234567890 --arch cnn", 4, "is outside"),
        ("--n-records 3 --arch cnn", 4, "3 is outside"),
        ("--n-records 500 --arch cnn --curves nowhere.json", 3, "nowhere.json"),
        ("--n-records 500 --arch cnn --curves .", 3, "curves file ."),
        ("--n-records 500 --arch cnn --labels AF", 2, "--labels 'AF': give names, each with its share"),
        ("--n-records 500 --arch cnn --labels AF:0.04,", 2, "--labels ''"),
        ("--n-records 500 --arch cnn --labels AF:often", 2, "--labels 'AF:often'"),
        ("--n-records 500 --arch cnn --labels AF:1", 2, "--labels: AF in 1 of the records"),
        ("--n-records 500 --arch cnn --labels AF:nan", 2, "--labels 'AF:nan'"),
        ("--n-records 500 --arch cnn --labels AF:1e-9", 2, "--labels: none of 500 records would have AF"),
        ("--n-records 500 --arch cnn --labels AF:0.9999", 2, "--labels: none of 500 records would lack AF"),
        ("--n-records 500 --arch cnn --labels AF:0.04,AFIB:0.1", 2, "--labels: AF is named twice"),
        ("--n-records 500 --task-like nonsense", 2, "the labels of 'nonsense' are not known; the nearest name is"),
        ("--n-records 500 --arch cnn --events 0", 2, "--events '0' of 500 records"),
        ("--n-records 500 --arch cnn --events 500", 2, "--events '500' of 500 records"),
        ("--n-records 500 --arch cnn --events 1e2", 2, "--events '1e2'"),
        ("--n-records 500 --arch cnn --task-like ptb-xl/AFIBB", 2, "nearest name is 'ptb-xl/AFIB'"),
        ("--n-records 500 --arch cnn --labels AF:0.1 --events 40", 2, "--labels and --events say the same"),
        ("--n-records 500 --data . --events 40", 2, "--events is read off --data"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments: str, code: int, says: str, command: Command):
    assert says in refused(command("recommend", *shlex.split(arguments)), code)


def asked(command: Command, *arguments: object) -> dict[str, Any]:
    code, out, err = command("recommend", "--n-records", 1000, "--arch", "cnn", "--json", *arguments)
    assert (code, err) == (0, "")
    return json.loads(out)


def width(score: dict[str, float]) -> float:
    return score["mean_ci_upper"] - score["mean_ci_lower"]


def test_labels_narrow_the_scores_and_are_named(command: Command):
    any_labels, given = asked(command), asked(command, "--labels", "afib:0.04,LBBB:0.02")
    assert width(given["scratch"]) < 0.7 * width(any_labels["scratch"])
    assert given["scratch"]["mean"] > any_labels["scratch"]["mean"], "both are easy to find"
    assert given["question"]["labels"] == [
        {"finding": "AF", "prevalence": 0.04, "measured": True},
        {"finding": "LBBB", "prevalence": 0.02, "measured": True},
    ]
    assert any_labels["question"]["labels"] == []
    out = command("recommend", "--n-records", 1000, "--arch", "cnn", "--labels", "afib:0.04,LBBB:0.02")[1]
    assert "with AF and LBBB." in out
    assert "your labels decide" in command("recommend", "--n-records", 1000, "--arch", "cnn")[1]


def test_networks_are_compared_only_where_the_labels_are_in_their_scores(command: Command):
    code, out, _ = command("recommend", "--n-records", 1000, "--json", "--labels", "SA:0.05")
    answer = json.loads(out)
    assert code == 0
    assert [row["arch"] for row in answer["networks"]] == ["resnet1d18-w16"]
    assert any(
        "Not compared: what labels say of gru-w32's scores was not measured" in one for one in answer["warnings"]
    )
    jsonschema.validate(answer, SCHEMA)


def test_few_records_with_a_label_are_warned_of(command: Command):
    assert any("have, or lack, AF" in one for one in asked(command, "--labels", "AF:0.005")["warnings"])
    assert any("have, or lack, AF" in one for one in asked(command, "--labels", "AF:0.995")["warnings"])
    assert not any("have, or lack" in one for one in asked(command, "--labels", "AF:0.05")["warnings"])


def test_what_is_named_first_and_the_verdict_agree_where_a_pre_training_is_paid_for(command: Command):
    for n in (500, 1000, 2000, 4000):
        prices = ("--upstream", "none", "--label-cost", "1", "--gpu-cost", "1", "--json")
        answer = json.loads(command("recommend", "--n-records", n, "--task", "ptb-xl/superclass", *prices)[1])
        assert (answer["verdict"], answer["best"]) != ("fine-tune", "scratch"), n
        if answer["best"] == "fine-tune":
            assert answer["money"]["expected_saving"] > 0, n


def test_a_label_that_was_not_measured_is_named_in_a_warning(command: Command):
    warnings = asked(command, "--labels", "AF:0.04,Ebstein:0.02")["warnings"]
    assert any("Not measured before" in one and one.endswith("Ebstein.") for one in warnings)


def test_a_task_like_the_asker_s_stands_for_its_labels(command: Command):
    like = asked(command, "--task-like", "ptb-xl/AFIB")
    (label,) = like["question"]["labels"]
    assert (label["finding"], like["question"]["task_like"]) == ("AF", "ptb-xl/AFIB")
    given = asked(command, "--labels", f"AF:{label['prevalence']}")
    assert given["scratch"] == like["scratch"]


def test_what_labels_cannot_say_is_said(command: Command):
    one_task = asked(command, "--task", "ptb-xl/form", "--labels", "AF:0.04")
    assert any("Your labels are not in the answer" in warning for warning in one_task["warnings"])
    assert one_task["question"]["labels"] == []
    code, out, _ = command("recommend", "--n-records", 1000, "--arch", "rnn", "--json", "--labels", "AF:0.04")
    assert code == 0
    assert any("was not measured" in warning for warning in json.loads(out)["warnings"])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e308", "many", ""])
@pytest.mark.parametrize("option", ["margin", "target", "label-cost", "gpu-cost", "uses", "device-speed"])
def test_nonsense_values_name_their_option(option: str, value: str, command: Command):
    said = refused(command("recommend", "--n-records", 500, "--arch", "cnn", f"--{option}", value), 2)
    assert f"--{option}" in said


@pytest.mark.parametrize(("option", "value"), [("margin", 0), ("margin", 1), ("target", 0.5), ("target", 1),
                                               ("uses", 0), ("uses", 1.5), ("device-speed", 0)])  # fmt: skip
def test_values_at_the_edge_are_refused(option: str, value: float, command: Command):
    assert f"--{option}" in refused(command("recommend", "--n-records", 500, "--arch", "cnn", f"--{option}", value), 2)


def test_damaged_curves_files_end_in_one_sentence(curves_path: Path, tmp_path: Path, command: Command):
    whole = curves_path.read_text()
    cases = {
        "truncated": whole[: len(whole) // 2],
        "newer": re.sub(r'"schema_version":\d+', '"schema_version":99', whole, count=1),
        "lacking": whole.replace('"draws"', '"daws"'),
        "ragged": re.sub(r'"a":"[^"]*"', r'"a":[[0.9,1],0.9]', whole, count=1),
        "empty": "",
    }
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        said = refused(command("recommend", "--n-records", 500, "--arch", "cnn", "--curves", tmp_path / name), 3)
        assert str(tmp_path / name) in said
        assert "inhomogeneous" not in said


def test_a_curves_file_that_is_a_pipe_or_a_device_is_not_read(tmp_path: Path, command: Command):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/full")):
        for words in (("recommend", "--n-records", 500), ("curves", "show")):
            said = refused(command(*words, "--curves", path), 3)
            assert said.strip() == f"error: the curves file {path} is not a regular file"


def test_a_target_below_what_the_evidence_speaks_of_takes_at_most_its_fewest_records(command: Command):
    ask = ("recommend", "--n-records", 500, "--arch", "cnn", "--task", "ptb-xl/superclass", "--target")
    answer = json.loads(command(*ask, 0.51, "--json")[1])
    assert answer["target"]["linear_probe"]["records"] == 7
    assert "linear probe at most 7 records" in " ".join(command(*ask, 0.51)[1].split())
    assert "linear probe at most" not in " ".join(command(*ask, 0.85)[1].split())


def test_color_is_for_terminals_that_want_it(command: Command, monkeypatch: pytest.MonkeyPatch):
    question = "recommend", "--n-records", 500, "--arch", "cnn"
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = command(*question)[1]
    assert "\x1b" not in plain
    colored = command(*question, terminal=True)[1]
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert command(*question, terminal=True)[1] == plain


def test_long_names_are_cut_to_the_lines_of_a_screen(curves_path: Path):
    curves = read_curves(curves_path)
    name = "a-network-of-somebody-s-with-a-long-name-" * 12
    curve = replace(curves.curves[0], arch=name, task=name, upstream=name, warnings=("too " * 200,))
    network = replace(curves.networks[curves.curves[0].arch], name=name)
    named = replace(curves, curves=(curve,), networks={name: network}, study=name)
    table = to_table(recommend(Question(500, target=0.9, label_cost=1.0, gpu_cost=1.0, upstream="none"), named))
    assert len(table.splitlines()) <= 25
    assert max(map(len, table.splitlines())) <= 80
    assert NOTICE in table


def test_explain_says_what_the_answer_rests_on(command: Command):
    code, out, _ = command("recommend", "--n-records", 5000, "--arch", "cnn", "--explain")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    for title in ("Evidence", "Fit", "Backtest", "Limits"):
        assert f"\n{title}\n" in out
    assert out.count(NOTICE) == 1
    answer = json.loads(command("recommend", "--n-records", 5000, "--arch", "cnn", "--explain", "--json")[1])
    said = " ".join(out.split())
    for warning in answer["warnings"]:
        assert warning in said
    of_task = "recommend", "--n-records", 5000, "--arch", "cnn", "--task", "ptb-xl/superclass", "--explain"
    point = json.loads(command(*of_task, "--json")[1])["explanation"]["points"][0]
    out = command(*of_task)[1]
    assert f"{point['scratch']:.3f}" in out
    assert f"{point['fine_tune']:.3f}" in out


def test_backtest_figures_are_shown_where_there_are_any(curves_path: Path, tmp_path: Path, command: Command):
    path = tmp_path / "curves.json"
    path.write_text(curves_path.read_text())
    question = "recommend", "--n-records", 500, "--arch", "cnn", "--curves", path, "--explain"
    assert "Not measured: no backtest.json" in command(*question)[1]
    document = {
        "tasks": ["a", "b"], "cells": 17, "regret": {"advice": 0.0012, "always_scratch": 0.0345},
        "coverage": {"gain": 0.91, "scratch": None}, "abstention": 0.25, "brier": {"advice": 0.123, "base_rate": 0.2},
    }  # fmt: skip
    backtest = tmp_path / "backtest.json"
    backtest.write_text(json.dumps(document))
    shown = command(*question)[1]
    for figure in ("17 held-out cells of 2 tasks", "0.0012", "0.0345", "91%", "25%", "0.123"):
        assert figure in shown
    assert json.loads(command(*question, "--json")[1])["explanation"]["backtest"]["regret"]["advice"] == 0.0012
    for damage in ("", "[]", "{}", '{"tasks": 3}', json.dumps({**document, "abstention": "x"}), '{"tasks": NaN}'):
        backtest.write_text(damage)
        code, out, _ = command(*question)
        assert code == 0
        assert "backtest.json next to the curves file cannot be read" in " ".join(out.split())


def test_an_error_is_one_line_whatever_it_quotes(command: Command):
    said = refused(command("recommend", "--n-records", 500, "--task", "a\nb\x1b[31m\tc"), 2)
    assert "\x1b" not in said
    assert "the nearest name is 'ptb-xl/" in said
    said = refused(command("curves", "plot", "--out", "x.svg", "--task", "a\nb\x1b[31m"), 2)
    assert said.startswith("error: --task is a b [31m: ")


def test_a_path_that_no_system_takes_ends_in_one_sentence(command: Command):
    for words in (("data", "check"), ("study", "status", "--store"), ("doctor", "--quick", "--corpora")):
        assert "File name too long" in refused(command(*words, "a" * 5000), 1)


def test_a_curves_file_whose_names_would_drive_a_terminal_is_refused(
    curves_path: Path, tmp_path: Path, command: Command
):
    for word in ("a\x1b[2J", "two\nlines", "half \ud800", "\x9b1m"):
        document = json.loads(curves_path.read_text())
        document["curves"][0]["task"] = word
        (tmp_path / "curves.json").write_text(json.dumps(document))
        said = refused(command("recommend", "--n-records", 500, "--curves", tmp_path / "curves.json"), 3)
        assert "stands where a text belongs" in said


@pytest.mark.parametrize("speed", ["5e-324", "1e-300", "9.9e-7"])
def test_a_speed_at_which_no_training_ends_is_refused(speed: str, command: Command):
    said = refused(command("recommend", "--n-records", 5000, "--arch", "cnn", "--device-speed", speed), 2)
    assert said.endswith(": give records a second, from 1e-06 to 1e+12\n")


def test_times_and_sums_at_the_most_extreme_values_are_numbers_that_can_be_read(tmp_path: Path, command: Command):
    page = tmp_path / "page.html"
    extremes = ("--device-speed", 1e-6, "--gpu-cost", 1e12, "--label-cost", 1e12, "--report", page)
    code, out, err = command("recommend", "--n-records", 5000, "--arch", "cnn", "--upstream", "none", *extremes)
    assert code == 0, err
    assert "over 100,000,000,000" in " ".join(out.split())
    shown = re.sub(r"<(style|script|svg).*?</\1>", "", page.read_text().partition('id="answer"')[0], flags=re.DOTALL)
    for text in (out, re.sub(r"\b[0-9a-f]{64}\b", "", shown)):  # a file's SHA-256 may have as many digits in a row
        assert not re.search(r"\binf\b|[\d,]{18}", text)
    answer = command("recommend", "--n-records", 5000, "--arch", "cnn", *extremes, "--json")[1]
    json.loads(answer, parse_constant=pytest.fail)


def test_a_null_character_which_only_a_program_can_pass_is_refused(command):
    for words in (("recommend", "--n-records", 500, "--curves", "a\0"), ("data", "check", "\0"), ("\0",)):
        assert command(*words) == (2, "", "error: an argument holds a null character\n")


@pytest.mark.parametrize("arch", ["CNN", "Rnn", "ResNet1D18-W16"])
def test_a_network_s_name_is_the_same_in_upper_and_lower_case(arch: str, command: Command):
    asked = ("recommend", "--n-records", "500", "--json", "--arch")
    assert command(*asked, arch) == command(*asked, arch.lower())


@pytest.mark.parametrize("words", ["--arch ecg_fm", "--arch ECGFM"])
def test_a_foundation_model_is_said_to_be_one(words: str, command: Command):
    said = refused(command("recommend", "--n-records", "500", *words.split()), 2)
    assert "ECG-FM is a published foundation model, which this study did not measure; its weights do not come" in said


@pytest.mark.parametrize(
    "words",
    [
        "--data DIR --upstream none --from resnet1d18-w16-ptbxl",
        "--data DIR --uses 3 --from resnet1d18-w16-ptbxl",
        "--n-records 500 --task ptb-xl/form --task-like ptb-xl/rhythm",
    ],
)
def test_options_that_make_no_sense_together_are_refused_before_a_record_is_read(words: str, command: Command):
    assert "leave one of them out" in refused(command("recommend", *words.split()), 2)


def test_sums_are_written_in_the_currency_of_the_prices(command: Command):
    asked = shlex.split("recommend --n-records 1000 --arch cnn --label-cost 3 --gpu-cost 3 --explain")
    code, out, _ = command(*asked, "--currency", "EUR")
    assert code == 0
    plain = command(*asked)[1]
    assert "3,000 EUR" in out
    assert "EUR" not in plain
    assert out.replace(" EUR", "").split() == plain.split(), "nothing else differs"
    document = json.loads(command(*asked[:-1], "--currency", "EUR", "--json")[1])
    jsonschema.validate(document, SCHEMA)
    assert document["question"]["currency"] == "EUR"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--currency EUR", "--currency is that of prices: give --label-cost or --gpu-cost"),
        ("--label-cost 2 --currency 'a b'", "--currency is 'a b': give a code of letters, as EUR, or a sign"),
        ("--label-cost 2 --currency ''", "--currency is ''"),
        ("--label-cost 2 --currency '<b>'", "--currency is '<b>'"),
    ],
)
def test_a_currency_is_a_short_word_of_prices(options: str, said: str, command: Command):
    assert said in refused(command("recommend", "--n-records", "500", "--arch", "cnn", *shlex.split(options)), 2)
