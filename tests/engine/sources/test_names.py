"""A corpus's name for a folder of any name: one folder's name on every operating system."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.sources.names import corpus_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("ptb-xl", "ptb-xl"), ("My Ward_2", "my-ward-2"), ("", "records"), ("عيادة القلب", "عيادة-القلب"),
        ("病院", "病院"), ("Köln", "köln"), ("हृदय", "हृदय"), ("CON", "con-records"), ("com1", "com1-records"),
        ("synthetic", "synthetic-records"), ("from-directories", "from-directories-records"), ("-rf", "rf"),
        (".hidden", "hidden"), ("..", "records-"), ("❤️", "records-"), ("a\x1b[2Jb\nc", "a-2jb-c"),
    ],
)  # fmt: skip
def test_letters_and_digits_of_any_script_are_kept(folder, name):
    found = corpus_name(folder)
    assert found.startswith(name) if name.endswith("-") else found == name


def test_names_that_differ_in_case_or_composition_are_one_and_others_are_not():
    assert corpus_name("KÖLN") == corpus_name(unicodedata.normalize("NFD", "köln")) == "köln"
    assert len({corpus_name(name) for name in ("病院", "عيادة", "❤️", "🫀", "x" * 200, "x" * 201)}) == 6


@given(st.text(max_size=300))
def test_every_name_can_be_a_folder(folder):
    name = corpus_name(folder)
    assert 0 < len(name.encode()) <= 140
    assert name.isprintable()
    assert not set(name) & set("/\\:*?<>|\"' .")
    assert name[0] != "-"
