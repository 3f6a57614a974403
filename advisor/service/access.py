"""What routes are given: the service, and whoever asks, where the role suffices."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import escape
from json import dumps
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from advisor.service.problems import Problem
from advisor.service.settings import Settings
from advisor.service.store import ServiceStore
from advisor.service.tokens import Caller, Role, Tokens

if TYPE_CHECKING:
    from advisor.service.answers import Answers
    from advisor.service.audit import Audit
    from advisor.service.datasets.datasets import Datasets
    from advisor.service.jobs.jobs import Jobs
    from advisor.service.metrics import Metrics
    from advisor.service.served_models.library import Library


@dataclass(frozen=True)
class Service:
    """Everything that a running service has; ``app.build_app`` puts it together."""

    settings: Settings
    store: ServiceStore
    tokens: Tokens
    audit: "Audit"
    metrics: "Metrics"
    answers: "Answers"
    datasets: "Datasets"
    jobs: "Jobs"
    library: "Library"

    def hide_paths(self, text: str) -> str:
        """Return a text, or a page, without the folders of this machine that commands were told."""
        given = self.settings
        for place in filter(None, (given.records_root, given.curves, given.models, self.store.root)):
            for path in {str(place.absolute()), str(place.resolve())} - {"/"}:
                for written in {path, escape(path), dumps(path)[1:-1]}:  # in a text, a page, JSON
                    text = text.replace(f"{written}/", "").replace(written, place.name)
        return text


async def get_service(request: Request) -> Service:
    """Return the service that the application was built for; a coroutine, because others are given a thread each."""
    service: Service = request.app.state.service
    return service


def need(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """Return a dependency that gives the caller, and refuses one whose role does not suffice."""

    async def caller_of(request: Request) -> Caller:
        caller: Caller = request.state.caller
        if caller.role < role:
            raise Problem(
                403, f"the token {caller.name} has the role {caller.role.name.lower()}: this takes {role.name.lower()}"
            )
        return caller

    return caller_of


Here = Annotated[Service, Depends(get_service)]
Reader = Annotated[Caller, Depends(need(Role.READER))]
Runner = Annotated[Caller, Depends(need(Role.RUNNER))]
Admin = Annotated[Caller, Depends(need(Role.ADMIN))]
