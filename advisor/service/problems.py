"""Errors as RFC 9457 problem documents: one sentence that says what was wrong, where, and what to do."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ConfigDict

from models.errors import ExitCode, UserError

MEDIA_TYPE = "application/problem+json"
# By exit code, the HTTP status of an error that the command line has too.
_STATUS = {
    ExitCode.USAGE: 400,
    ExitCode.DATA: 422,
    ExitCode.NO_EVIDENCE: 422,
    ExitCode.FAILURE: 503,
    ExitCode.INTERRUPTED: 503,
}
# What ``type`` names, each with what it means; /docs lists them.
KINDS = {
    "usage": "The request has a value that it cannot have, or values that contradict each other.",
    "data": "Records, a dataset or a model cannot be used.",
    "no-evidence": "The evidence has no answer to this question; the pilot that would give one is named.",
    "failure": "Something the service needs is not there just now: disk, a worker, a scheduler.",
    "unauthorized": "A token is missing, unknown or expired.",
    "forbidden": "The token's role may not do this, or the request came from another site's page.",
    "not-found": "There is nothing of that name.",
    "conflict": "What is asked for does not go with the state that the thing is in.",
    "too-large": "An upload is larger than the operator allows; the limit's name is in the sentence.",
    "too-many": "As many wait as are allowed: jobs, answers about records, or streams of events.",
    "disk-full": "Less disk is free than the operator keeps: nothing new is taken, nothing is lost.",
    "method-not-allowed": "The address has no such method.",
}
_BY_STATUS = {
    400: "usage", 401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed", 409: "conflict",
    408: "usage", 413: "too-large",
    415: "usage", 421: "forbidden", 422: "usage", 429: "too-many", 503: "failure", 507: "disk-full",
}  # fmt: skip


class Problem(Exception):  # noqa: N818 the word of RFC 9457
    """A request that gets no answer: an HTTP status, a sentence, and what else a program may want to know."""

    def __init__(
        self, status: int, detail: str, kind: str | None = None, *, headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.status, self.detail, self.members = int(status), detail, members
        self.kind = kind or _BY_STATUS.get(self.status, "usage")
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: UserError, **members: Any) -> "Problem":
        """Return the problem that an error of the command line is."""
        kind = error.exit_code.name.lower().replace("_", "-")
        kind = kind if kind in KINDS else "failure"
        return cls(_STATUS[error.exit_code], str(error), kind, exit_code=int(error.exit_code), **members)

    def document(self) -> dict[str, Any]:
        """Return the document."""
        return {
            "type": f"/docs#problem-{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }


class ProblemDocument(BaseModel):
    """An error as RFC 9457 has it; ``exit_code`` is the command line's, where it has the same error."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    exit_code: int | None = None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route's ``responses`` says of its errors; those that every route can have are among them."""
    return {
        status: {
            "description": KINDS[_BY_STATUS[status]],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({401, 403, 422, *statuses})
    }
