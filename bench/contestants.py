"""Who is measured: how each is started, its addresses, and where its answers hold the rows.

Every one gets one worker process, up to ten connections to the database, no access log unless it
cannot be switched off, and the same tokens. Competitors are set up as their documentation asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import Server, serving
from bench.works import WORKS, requests_of
from bench.world import World
from scripts.ports import free_port

__all__ = ["CONTESTANTS", "UNLIMITED", "Contestant", "started"]

#: Made by `scripts/environment bench`: what the competitors need and the project does not.
OTHERS = Path(__file__).parent.parent / ".venv-bench" / "bin" / "python"
CONNECTIONS = 10
#: BYO DPP counts requests as ever, with budgets that the load does not reach.
UNLIMITED = {
    "BYODPP_RATE_LIMIT_PER_IP": "1000000000",
    "BYODPP_RATE_LIMIT_PER_USER": "1000000000",
    "BYODPP_RATE_LIMIT_PER_TENANT": "1000000000",
    "BYODPP_MAX_CONCURRENT_REQUESTS_PER_TENANT": "100000",
}

_PRODUCTS = "/api/v1/products"
_ADDRESSES = {
    "read": f"{_PRODUCTS}/{{id}}",
    "list": f"{_PRODUCTS}?limit=20",
    "filtered": f"{_PRODUCTS}?limit=20&filter[price][gte]=500&sort=-price",
    "include": f"{_PRODUCTS}?limit=20&include=category,parts",
    "create": _PRODUCTS,
    "patch": f"{_PRODUCTS}/{{id}}",
    "batch": f"{_PRODUCTS}/batch",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to serve the same rows."""

    name: str
    title: str
    words: Sequence[str]  # after the interpreter; `{port}` and `{app}` are filled in
    interpreter: Path = Path(sys.executable)
    variables: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=lambda: _ADDRESSES)
    row: str | None = "data"  # member of an answer that holds a row; None when the answer is the row
    rows: str | None = "data"  # member that holds the rows of a list
    created: str | None = "data"  # member that holds the rows of a batch
    total: str = "count"

    def row_of(self, answer: Any) -> Any:
        """Return the row of an answer that holds one."""
        return answer if self.row is None else answer[self.row]

    def rows_of(self, answer: Any, *, batch: bool = False) -> list[Any]:
        """Return the rows of an answer that holds several."""
        member = self.created if batch else self.rows
        found: list[Any] = answer if member is None else answer[member]
        return found


def _uvicorn(module: str) -> list[str]:
    return [
        *("-m", "uvicorn", module, "--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]


def _others(**addresses: str) -> dict[str, str]:
    """Return the addresses of a service whose filters and relations have names of their own."""
    return {**_ADDRESSES, **addresses}


CONTESTANTS = {
    one.name: one
    for one in (
        Contestant(
            name="bare",
            title="the bare limit: ASGI, asyncpg, JSON by PostgreSQL",
            words=_uvicorn("bench.rivals.bare:application"),
        ),
        Contestant(
            name="fastapi",
            title="FastAPI, SQLAlchemy's ORM, pydantic, on uvicorn",
            words=_uvicorn("bench.rivals.fastapi_orm:application"),
            interpreter=OTHERS,
            addresses=_others(
                filtered=f"{_PRODUCTS}?limit=20&min_price=500&sort=-price",
                include=f"{_PRODUCTS}/whole?limit=20",
            ),
            row=None,
            created=None,
        ),
        Contestant(
            name="fastcrud",
            title="FastAPI with FastCRUD, on uvicorn",
            words=_uvicorn("bench.rivals.fastcrud_app:application"),
            interpreter=OTHERS,
            addresses=_others(
                filtered=f"{_PRODUCTS}?limit=20&min_price=500&sort=-price",
                include=f"{_PRODUCTS}/whole?limit=20",
            ),
            row=None,
            created=None,
            total="totalCount",
        ),
        Contestant(
            name="django",
            title="Django REST framework, on gunicorn with threads",
            words=[
                *("-m", "gunicorn", "bench.rivals.django_rest.wsgi:application"),
                *("--bind", "127.0.0.1:{port}", "--workers", "1", "--worker-class", "gthread"),
                *("--threads", "4", "--keep-alive", "5", "--log-level", "warning"),
            ],
            interpreter=OTHERS,
            addresses=_others(
                filtered=f"{_PRODUCTS}?limit=20&min_price=500&sort=-price",
                include=f"{_PRODUCTS}/whole?limit=20",
            ),
            row=None,
            rows="results",
            created=None,
        ),
        Contestant(
            name="byodpp",
            title="BYO DPP",
            words=["-m", "byodpp", "--app", "{app}", "serve", "--port", "{port}", "--no-demo"],
            variables={**UNLIMITED, "BYODPP_POOL_MAX_CONNECTIONS": str(CONNECTIONS)},
        ),
    )
}


def started(contestant: Contestant, world: World) -> AbstractContextManager[Server]:
    """Start a contestant on a world; it ends with the block."""
    port = free_port()
    filled = {"port": str(port), "app": str(world.folder)}
    words = [word.format_map(filled) for word in contestant.words]
    probe = requests_of(WORKS["read"], contestant.addresses["read"], world)[0]
    return serving(
        [str(contestant.interpreter), *words],
        {**world.environment(), "BENCH_CONNECTIONS": str(CONNECTIONS), **contestant.variables},
        port,
        probe,
        world.folder / f"{contestant.name}.log",
    )
