"""Tokens: who is known, for how long, and when a service refuses to start without one."""

from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest

from advisor.service import tokens
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import Caller, Role, TokenError, TokenFile, Tokens, new_token, read_tokens

TOKEN = "a-token-of-thirty-characters-x"
NESTED = "a = " + "[" * 5000


@pytest.fixture
def store(tmp_path: Path):
    opened = ServiceStore(tmp_path / "service").open()
    yield opened
    opened.close()


def read(store: ServiceStore, text: str | None = None, **settings: object) -> Tokens:
    path = store.root / "tokens.toml"
    if text is not None:
        path.write_text(text)
    return read_tokens(Settings(store.root, tokens=None if text is None else path, **settings), store)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.7.3", "ward.example"])
def test_a_host_that_others_reach_takes_a_token(store: ServiceStore, host: str):
    with pytest.raises(TokenError, match=f"--host {host} can be reached from other machines, and there is no token"):
        read(store, host=host)
    assert read(store, host=host, token=TOKEN).are_needed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_this_machine_alone_takes_none(store: ServiceStore, host: str):
    assert not read(store, host=host).are_needed


def test_a_token_made_for_the_file_is_known_by_its_name_and_role(store: ServiceStore):
    token, table = new_token("ward.3", Role.RUNNER, None)
    known = read(store, table)
    assert known.find(token) == Caller("ward.3", Role.RUNNER)
    assert token not in table
    assert sha256(token.encode()).hexdigest() in table
    for wrong in ("", token[:-1], f"{token}x", token.upper(), "\udcff"):
        assert known.find(wrong) is None


def test_a_token_holds_to_the_end_of_its_last_day(store: ServiceStore, monkeypatch: pytest.MonkeyPatch):
    token, table = new_token("guest", Role.READER, date(2027, 6, 30))
    known = read(store, table)
    for moment, is_known in (
        (datetime(2027, 6, 30, 23, 59, tzinfo=UTC), True),
        (datetime(2027, 7, 1, tzinfo=UTC), False),
    ):
        monkeypatch.setattr(tokens, "_today", lambda moment=moment: moment)
        assert (known.find(token) is not None) == is_known


def test_a_token_that_ends_on_the_last_day_there_is_never_ends(store: ServiceStore, monkeypatch: pytest.MonkeyPatch):
    token, table = new_token("guest", Role.READER, date.max)
    known = read(store, table)
    for moment in (datetime(2027, 6, 30, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        monkeypatch.setattr(tokens, "_today", lambda moment=moment: moment)
        assert known.find(token) == Caller("guest", Role.READER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no token"),
        ("[a", "is not TOML"),
        (NESTED, "is not TOML: it is nested too deeply"),
        ("a = 1", r"\[a\]: give a table"),
        ('[a]\nrole = "owner"\nsha256 = "00"', "give one of reader, runner, admin"),
        ('[a]\nrole = "nobody"\nsha256 = "00"', "give one of reader, runner, admin"),
        ('[a]\nrole = "reader"\nsha256 = "00"', "not 64 hexadecimal digits"),
        (f'[a]\nrole = "reader"\nsha256 = "{"0" * 64}"\nexpires = "soon"', "expires is not a date"),
        (f'[a]\nrole = "reader"\nsha256 = "{"0" * 64}"\ntoken = "x"', "there is no token"),
    ],
    ids=range(9),
)
def test_a_token_file_with_a_mistake_is_refused_in_one_sentence(store: ServiceStore, text: str, said: str):
    with pytest.raises(TokenError, match=said):
        read(store, text)


def file_of(store: ServiceStore, *tables: str) -> Path:
    path = store.root / "tokens.toml"
    path.write_text("\n".join(tables))
    return path


def test_a_changed_file_holds_once_looks_have_found_it_the_same_for_a_second(store: ServiceStore):
    (one, first), (other, second) = new_token("one", Role.ADMIN, None), new_token("other", Role.READER, None)
    clock = SimpleNamespace(now=100.0)
    file = TokenFile(file_of(store, first), lambda: clock.now)
    known = Tokens(None, file, store, 1.0)
    assert (known.find(one), known.find(other)) == (Caller("one", Role.ADMIN), None)
    file_of(store, first.replace("admin", "reader"), second)
    for clock.now in (100.2, 100.25, 101.2):
        assert (known.find(one), known.find(other)) == (Caller("one", Role.ADMIN), None)
    clock.now = 101.5
    assert (known.find(one), known.find(other)) == (Caller("one", Role.READER), Caller("other", Role.READER))
    file_of(store, second)
    for clock.now in (5000.0, 5000.9):
        assert known.find(one) == Caller("one", Role.READER)
    clock.now = 5001.5
    assert (known.find(one), known.find(other)) == (None, Caller("other", Role.READER))


def test_a_file_that_is_being_written_changes_nothing_and_says_nothing(
    store: ServiceStore, caplog: pytest.LogCaptureFixture
):
    (one, first), (other, second) = new_token("one", Role.ADMIN, date.max), new_token("other", Role.READER, None)
    clock = SimpleNamespace(now=100.0)
    path = file_of(store, second, first)
    whole = path.read_text()
    known = Tokens(None, TokenFile(path, lambda: clock.now), store, 1.0)
    parts = ["", second, whole[:-30], whole[: whole.index("expires")], None, whole, "", whole, ""]  # some make sense
    for number, part in enumerate(parts, start=1):
        path.unlink() if part is None else path.write_text(part)
        for clock.now in (100.0 + number, 100.7 + number):
            assert known.find(one) == Caller("one", Role.ADMIN)
            assert known.find(other) == Caller("other", Role.READER)
    assert caplog.messages == []
    clock.now += 0.4
    assert known.find(one) is None, "the last has stayed"
    assert "names no token: nobody is let in by it" in caplog.text


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is looked at whenever somebody asks, and what it has holds at once."""
    monkeypatch.setattr(tokens, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(tokens, "_SETTLED_SECONDS", 0.0)


def test_a_session_ends_with_its_token_and_nobodys_else(store: ServiceStore, impatient: None):
    (one, first), (other, second) = new_token("one", Role.ADMIN, None), new_token("other", Role.READER, None)
    known = read_tokens(Settings(store.root, tokens=file_of(store, first, second)), store)
    held, others = known.begin_session(one)[0], known.begin_session(other)[0]
    file_of(store, second)
    assert known.find_session(held) is None
    assert known.find_session(others) == Caller("other", Role.READER)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_text("[a"), "is not TOML"),
        (lambda path: path.write_bytes(b"\xff"), "is not TOML"),
        (lambda path: path.write_text(NESTED), "is not TOML: it is nested too deeply"),
        (lambda path: path.write_text(path.read_text() + "\n[b]\nrole = 'owner'"), "its role is 'owner'"),
        (lambda path: path.unlink(), "cannot read the token file"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing_but_the_log_until_it_is_put_right(
    store: ServiceStore, impatient: None, caplog: pytest.LogCaptureFixture, change, said: str
):
    token, table = new_token("one", Role.ADMIN, None)
    path = file_of(store, table)
    known = read_tokens(Settings(store.root, tokens=path), store)
    for _ in range(2):
        change(path)
        for _ in range(3):
            assert known.find(token) == Caller("one", Role.ADMIN)
        (line,) = caplog.messages
        assert said in line and "the tokens from before hold until that is put right" in line
        file_of(store, table)
        assert known.find(token) == Caller("one", Role.ADMIN)
        caplog.clear()  # a second mistake of the same kind is said again
    file_of(store)
    assert known.find(token) is None


def test_a_file_that_names_no_token_any_more_lets_nobody_in(store: ServiceStore, impatient: None, caplog):
    token, table = new_token("one", Role.ADMIN, None)
    known = read_tokens(Settings(store.root, tokens=file_of(store, table), token=TOKEN), store)
    alone = read_tokens(Settings(store.root, tokens=file_of(store, table)), store)
    file_of(store)
    assert known.find(token) is alone.find(token) is None
    assert alone.are_needed, "it is not everybody's for that"
    assert known.find(TOKEN) == Caller("admin", Role.ADMIN)
    assert "names no token: nobody is let in by it" in caplog.text
    assert token not in caplog.text


def test_a_short_token_is_refused(store: ServiceStore):
    with pytest.raises(TokenError, match="give 20 or more"):
        read(store, token="secret")


def test_a_token_is_in_no_representation():
    assert TOKEN not in repr(Settings(Path("x"), token=TOKEN))


def test_a_session_ends_with_its_time_with_a_logout_and_with_its_token(
    store: ServiceStore, monkeypatch: pytest.MonkeyPatch
):
    known = read(store, token=TOKEN, session_hours=2.0)
    caller = known.find(TOKEN)
    assert caller is not None
    held, seconds = known.begin_session(TOKEN)
    other, _ = known.begin_session(TOKEN)
    assert seconds == 7200
    assert known.find_session(held) == caller
    assert not any(secret in store.database.read_bytes().decode("latin-1") for secret in (held, TOKEN))
    known.end_session(other)
    assert known.find_session(other) is None
    assert read(store, token=TOKEN.upper()).find_session(held) is None, "another token is its owner's now"
    assert read(store, token=TOKEN).find_session(held) == caller
    later = datetime.now(UTC) + timedelta(hours=3)
    monkeypatch.setattr(tokens, "_today", lambda: later)
    assert known.find_session(held) is None
