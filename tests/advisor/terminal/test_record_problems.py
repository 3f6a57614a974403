"""Problems of records in lines: few one by one, many counted with the first records named."""

import pytest

from advisor.terminal.record_problems import in_kinds, problem_lines
from engine.corpora.corpus import Problem


def without_file(n: int, first: int = 0) -> list[Problem]:
    return [
        Problem(f"x{k}", f"labels.csv, line {k + 2}: no file for this record", usable=False)
        for k in range(first, first + n)
    ]


def test_thousands_of_rows_without_a_file_are_one_line_that_counts_them():
    assert problem_lines(without_file(2000)) == [
        "unusable: 2,000 records (x0, x1, x2, x3, x4 and 1,995 more) such as: "
        "labels.csv, line 2: no file for this record"
    ]


def test_few_are_told_one_by_one():
    lines = problem_lines(without_file(5))
    assert lines == [f"unusable: x{k}: labels.csv, line {k + 2}: no file for this record" for k in range(5)]


def test_the_same_problem_of_several_records_is_one_line_however_few():
    flat = [Problem(name, "lead V3 is flat", usable=True) for name in "abc"]
    other = Problem("d", "lead V4 is flat", usable=True)
    assert problem_lines([*flat, other]) == [
        "kept: 3 records (a, b, c): lead V3 is flat",
        "kept: d: lead V4 is flat",
    ]


def test_leads_are_told_apart_however_many_there_are():
    flat = [Problem(f"r{k}", f"lead V{k % 6 + 1} is flat", usable=True) for k in range(60)]
    lines = problem_lines(flat)
    assert [line.rpartition(": ")[2] for line in lines] == [f"lead V{k} is flat" for k in range(1, 7)]
    assert all(line.startswith("kept: 10 records (") for line in lines)


@pytest.mark.parametrize(
    ("record", "file"),
    [("r{}", "r{}.dat"), ("ward1/r{}", "r{}.dat"), ("r{}.hea", "r{}.dat"), ("r{}", "r{}_hr.dat"), ("{}", "{}_hr.dat"),
     ("r-{}", "r-{}.dat"), ("r{}", "sub/r{}.dat")],
)  # fmt: skip
def test_a_problem_that_names_the_record_or_its_file_is_one_line(record: str, file: str):
    cut = [
        Problem(record.format(k), f"truncated: {file.format(k)} has {10 * k} of 5000 samples", usable=False)
        for k in range(60)
    ]
    (line,) = problem_lines(cut)
    assert line.startswith(f"unusable: 60 records ({record.format(0)}, ")
    assert line.endswith(f" such as: truncated: {file.format(0)} has 0 of 5000 samples")


def test_the_name_of_a_record_divides_no_problem_that_has_it_by_chance():
    short = [Problem(f"{k}", f"{k % 7 + 0.1} s long", usable=False) for k in range(60)]
    assert len(in_kinds(short)) == 1
    same = [Problem(name, "a block has no lead V1", usable=False) for name in ("a", "b", "1")]
    assert len(in_kinds(same)) == 1


def test_what_makes_a_record_unusable_comes_first_and_is_not_mixed_with_remarks():
    odd = [Problem(f"r{k}", f"{k} s long", usable=True) for k in range(9)]
    short = [Problem(f"s{k}", f"{k} s long", usable=False) for k in range(7)]
    kinds = in_kinds([*odd, *short])
    assert [(kind.usable, len(kind.records), kind.alike) for kind in kinds] == [(False, 7, False), (True, 9, False)]


def test_kinds_beyond_those_listed_are_counted_with_their_records():
    problems = [Problem(f"r{k}", f"{'damaged' * (k // 2 + 1)}", usable=False) for k in range(50)]
    lines = problem_lines(problems)
    assert len(lines) == 21
    assert lines[-1] == "... and 5 more kinds of problem, in 10 records"


def test_a_record_that_has_a_kind_of_problem_twice_is_counted_once():
    twice = [Problem("r", f"spans {k} mV", usable=True) for k in range(6)]
    assert [kind.records for kind in in_kinds(twice)] == [("r",)]


def test_a_line_is_one_line_whatever_a_record_is_called():
    assert problem_lines([Problem("a\nb", "no\x1b[31m samples", usable=False)]) == ["unusable: a b: no [31m samples"]
