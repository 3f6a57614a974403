"""Who may use the service: tokens with a role, compared in constant time and kept as hashes alone.

A token file is TOML, a table a token; ``ecgadvise serve --new-token NAME`` prints one::

    [ward-3]
    role = "runner"
    sha256 = "9f86d081..."
    expires = 2027-06-30

The file is read again when it has changed: a token that is taken out is nobody's within two seconds. A browser that was
given a token keeps a session of its own in a cookie instead, which ends with the token.
"""

import logging
import re
import secrets
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from anyio import sleep

from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from models.errors import ExitCode, UserError, decoding_fault

log = logging.getLogger(__name__)
SHORTEST = 20  # characters of a token that is given as it is
_BYTES = 32
_LOOK_SECONDS = 0.25  # between two looks at the token file
_SETTLED_SECONDS = 1.0  # for which all looks have to find the same before it holds
_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")


class Role(IntEnum):
    """What a caller may do: read answers and states; upload, train and predict; delete as well.

    Nobody is who has given no token, where one is needed.
    """

    NOBODY = 0
    READER = 1
    RUNNER = 2
    ADMIN = 3


class TokenError(UserError, ValueError):
    """Tokens that are missing or cannot be read; one sentence says which."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Caller:
    """Who asks: the token's name, never the token."""

    name: str
    role: Role


@dataclass(frozen=True)
class _Known:
    caller: Caller
    digest: str
    expires: date | None  # the last day


LOCAL = Caller("local", Role.ADMIN)  # whoever uses a service that only this machine reaches and that has no tokens


class TokenFile:
    """The operator's file of tokens, looked at again and again, by a running service and whenever somebody asks.

    By its content, not its time: a copy may keep that. What is found holds once every look of a second has found the
    same, which is within two seconds while ``Tokens.watch`` runs: a file that is being written changes nothing. To
    replace it by a rename is safest: its content is never in part. One that is missing or has a mistake changes nothing
    but the log, so that nobody is shut out by a slip; one that names no token any more lets nobody in.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked = self._since = clock()  # last; and since when looks found what they do now
        content = _read_file(path)
        self._found: bytes | str = content  # or why nothing was
        self._judged: bytes | str = content
        self._known = _read_tables(path, content)
        if not self._known:
            raise TokenError(f"the token file {path} names no token")

    def known(self) -> tuple[_Known, ...]:
        """Return the tokens that the file names."""
        if (now := self._clock()) - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look(now)
        return self._known

    def _look(self, now: float) -> None:
        found: bytes | str
        try:
            found = _read_file(self._path)
        except TokenError as error:
            found = str(error)
        if found != self._found:
            self._found, self._since = found, now
        if now - self._since >= _SETTLED_SECONDS and found != self._judged:
            self._judged = found
            self._take(found)

    def _take(self, found: bytes | str) -> None:
        try:
            if isinstance(found, str):
                raise TokenError(found)
            self._known = _read_tables(self._path, found)
        except TokenError as error:
            log.warning("%s: the tokens from before hold until that is put right", error)
        else:
            if not self._known:
                log.warning("the token file %s names no token: nobody is let in by it", self._path)


class Tokens:
    """The tokens that are known; without any, a service on this machine alone is everybody's on it."""

    def __init__(self, owner: _Known | None, file: TokenFile | None, store: ServiceStore, session_hours: float) -> None:
        self._owner, self._file = owner, file
        self._store, self._lasts = store, timedelta(hours=session_hours)

    @property
    def are_needed(self) -> bool:
        """Whether requests have to name a caller; also where all of them were taken out of the file."""
        return self._owner is not None or self._file is not None

    async def watch(self) -> None:
        """Look at the file until this is cancelled, so that a change is known when the next caller comes."""
        while self._file is not None:
            self._file.known()
            await sleep(_LOOK_SECONDS)

    def find(self, token: str) -> Caller | None:
        """Return whose token it is, None where it is nobody's or has expired."""
        return self._find_digest(_digest(token))

    def _find_digest(self, digest: str) -> Caller | None:
        found = None
        known = () if self._file is None else self._file.known()
        for one in known if self._owner is None else (*known, self._owner):  # all of them, so that time tells nothing
            if compare_digest(one.digest, digest) and (one.expires is None or _today().date() <= one.expires):
                found = one.caller
        return found

    def begin_session(self, token: str) -> tuple[str, int]:
        """Return what a browser's cookie is to hold for whoever gave a token, and for how many seconds."""
        held, until = secrets.token_urlsafe(_BYTES), _today() + self._lasts
        with self._store.transaction() as db:
            db.execute("DELETE FROM sessions WHERE expires < ?", (_today().isoformat(),))
            row = _digest(held), _digest(token), until.isoformat()
            db.execute("INSERT INTO sessions VALUES (?, ?, ?)", row)
        return held, int(self._lasts.total_seconds())

    def find_session(self, held: str) -> Caller | None:
        """Return whose session it is, None where it has ended or its token is no longer known."""
        query = "SELECT token_sha256 FROM sessions WHERE sha256 = ? AND expires >= ?"
        rows = self._store.rows(query, _digest(held), _today().isoformat())
        return self._find_digest(rows[0]["token_sha256"]) if rows else None

    def end_session(self, held: str) -> None:
        """Forget a session."""
        with self._store.transaction() as db:
            db.execute("DELETE FROM sessions WHERE sha256 = ?", (_digest(held),))


def read_tokens(settings: Settings, store: ServiceStore) -> Tokens:
    """Return the tokens of the settings. Raises TokenError where some are needed and none are given."""
    file = None if settings.tokens is None else TokenFile(settings.tokens)
    owner = None
    if settings.token is not None:
        if len(settings.token) < SHORTEST:
            raise TokenError(
                f"ECGADVISE_TOKEN has {len(settings.token)} characters: give {SHORTEST} or more, "
                "as openssl rand -hex 32 makes them"
            )
        owner = _Known(Caller("admin", Role.ADMIN), _digest(settings.token), None)
    if owner is None and file is None and not settings.is_local:
        raise TokenError(
            f"--host {settings.host} can be reached from other machines, and there is no token: set ECGADVISE_TOKEN, "
            "or give --tokens FILE (ecgadvise serve --new-token NAME makes one)"
        )
    return Tokens(owner, file, store, settings.session_hours)


def new_token(name: str, role: Role, expires: date | None) -> tuple[str, str]:
    """Return a token and its table for a token file. Raises TokenError for a name that is no plain word."""
    if not _NAME.fullmatch(name):
        raise TokenError(f"--new-token {name!r}: a name has letters, digits, . _ and -, 60 at most")
    token = secrets.token_urlsafe(_BYTES)
    lines = [
        f'["{name}"]' if "." in name else f"[{name}]",
        f'role = "{role.name.lower()}"',
        f'sha256 = "{_digest(token)}"',
    ]
    return token, "\n".join([*lines, *([f"expires = {expires.isoformat()}"] if expires else [])])


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenError(f"cannot read the token file {path}: {error.strerror}") from None


def _read_tables(path: Path, content: bytes) -> tuple[_Known, ...]:
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, OverflowError, RecursionError) as error:  # TOML's and UTF-8's
        raise TokenError(f"the token file {path} is not TOML: {decoding_fault(error)}") from None
    return tuple(_read_table(path, name, table) for name, table in tables.items())


def _read_table(path: Path, name: str, table: object) -> _Known:
    where = f"the token file {path}, [{name}]"
    if not isinstance(table, Mapping):
        raise TokenError(f"{where}: give a table with role, sha256 and, if it ends, expires")
    if strange := set(table) - {"role", "sha256", "expires"}:
        raise TokenError(f"{where}: there is no {min(strange)}: give role, sha256 and, if it ends, expires")
    role, digest, expires = table.get("role"), table.get("sha256"), table.get("expires")
    if role not in (names := [one.name.lower() for one in Role if one]):
        raise TokenError(f"{where}: its role is {role!r}: give one of {', '.join(names)}")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise TokenError(f"{where}: sha256 is not 64 hexadecimal digits")
    if expires is not None and type(expires) is not date:
        raise TokenError(f"{where}: expires is not a date, as 2027-06-30")
    return _Known(Caller(name, Role[role.upper()]), digest, expires)


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _today() -> datetime:
    return datetime.now(UTC)
