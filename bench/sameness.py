"""Do all contestants give the same answers? Asked before anything is measured.

Values are compared as what they mean, because each contestant writes them in its own manner: a
decimal may be a number or a text, a moment may have other digits. Everything else must be equal,
to the last member. May refuse: `Different`, with the request and both answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from bench.contestants import CONTESTANTS, Contestant
from bench.processes import Request, Server, ask
from bench.works import BATCH, UNIQUE, WORKS, Work, requests_of
from bench.world import World

__all__ = ["Different", "compare", "normal"]

_ASKED = 5  # requests of each work
_DECIMALS = frozenset({"price", "weight"})
_MOMENTS = frozenset({"createdAt", "updatedAt"})
#: What two rows that were made from the same body do not share.
_OWN = frozenset({"id", "createdAt", "updatedAt", "version"})
#: Takes no offence at anything: it only shows what would be left without a service.
_CARELESS = frozenset({"bare"})


class Different(Exception):
    """A contestant does not do the same work."""


def normal(value: Any, name: str = "") -> Any:
    """Return a JSON value as what it means; `name` is the member that holds it."""
    if isinstance(value, dict):
        return {key: normal(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [normal(one) for one in value]
    if name in _DECIMALS and value is not None:
        return Decimal(str(value)).normalize()
    if name in _MOMENTS:
        return datetime.fromisoformat(value).astimezone(UTC)
    return value


def compare(world: World, servers: Mapping[str, Server], works: list[Work]) -> None:
    """Let every contestant do some of every work, and compare what comes back and what is stored.

    Raises:
        Different: an answer, or what it left in the database, is not the same.
    """
    runs = Runs()
    for work in works:
        expected: list[Any] = []
        for name, server in servers.items():
            contestant = CONTESTANTS[name]
            found = [
                _done(world, contestant, server, work, request, runs)
                for request in requests_of(work, contestant.addresses[work.address], world)[:_ASKED]
            ]
            expected = expected or found
            for number, (one, other) in enumerate(zip(found, expected, strict=True)):
                if one != other:
                    raise Different(f"{work.name} {number}: {name} says {one}, others say {other}")
        if work.address == "batch":
            for name in servers.keys() - _CARELESS:
                _refuses_an_invalid_item(world, CONTESTANTS[name], servers[name], runs)
    if "byodpp" in servers:
        _leaves_traces(world, servers["byodpp"], runs)
    world.tidy()


class Runs:
    """Numbers for UNIQUE that the load generator, which counts from one, does not reach."""

    def __init__(self) -> None:
        self._number = 10**12

    def fill(self, body: Any) -> tuple[Any, dict[str, str]]:
        """Return a body with numbers in the places, and what to put back to get the same again."""
        text, back = json.dumps(body), {}
        while UNIQUE in text:
            self._number -= 1
            text = text.replace(UNIQUE, str(self._number), 2 if "Made" in text else 1)
            back[str(self._number)] = UNIQUE
        return json.loads(text), back


def _done(
    world: World, contestant: Contestant, server: Server, work: Work, request: Request, runs: Runs
) -> Any:
    """Do one request and return what can be compared."""
    body, back = runs.fill(request.body)
    sent = Request(
        method=request.method,
        path=request.path,
        token=request.token,
        tenant=request.tenant,
        body=body,
    )
    status, answer = ask(server.port, sent)
    if status != work.status:
        said = f"{request.method} {request.path} with {status}: {answer}"
        raise Different(f"{contestant.name} answers {said}\n{server.said()}")
    if work.method == "GET":
        if work.by_id:
            return normal(contestant.row_of(answer))
        return normal(contestant.rows_of(answer)), int(answer[contestant.total])
    batch = work.address == "batch"
    rows = contestant.rows_of(answer, batch=True) if batch else [contestant.row_of(answer)]
    _is_stored(world, contestant, request.tenant, rows)
    text = json.dumps([{k: v for k, v in row.items() if k not in _OWN} for row in rows])
    for number, place in back.items():
        text = text.replace(number, place)
    return normal(json.loads(text, parse_float=str))


def _is_stored(world: World, contestant: Contestant, tenant: int, rows: list[Any]) -> None:
    """Check that what was answered is what is stored."""
    stored = {
        row["id"]: row
        for row in world.fetch(
            "select * from products where tenant_id = $1 and id = any($2::bigint[])",
            tenant,
            [row["id"] for row in rows],
        )
    }
    for row in rows:
        kept, told = stored.get(row["id"]), normal(row)
        same = kept is not None and (
            (kept["name"], kept["sku"], kept["stock"], kept["description"], kept["version"])
            == (told["name"], told["sku"], told["stock"], told["description"], told["version"])
            and kept["price"] == told["price"]
            and kept["updated_at"] == told["updatedAt"]
        )
        if not same:
            raise Different(f"{contestant.name} answers {row}, and stores {kept and dict(kept)}")


def _refuses_an_invalid_item(world: World, contestant: Contestant, server: Server, runs: Runs) -> None:
    """Check that the last item of a batch is validated like the first, and that nothing is left of it."""
    request = requests_of(WORKS["batch"], contestant.addresses["batch"], world)[0]
    body, _ = runs.fill(request.body)
    for member, value in (("price", -1), ("name", "")):
        wrong = [*body[: BATCH - 1], body[BATCH - 1] | {member: value}]
        sent = Request(
            method="POST", path=request.path, token=request.token, tenant=request.tenant, body=wrong
        )
        status, answer = ask(server.port, sent)
        if status not in (400, 422) or member not in json.dumps(answer):
            raise Different(f"{contestant.name} takes {member}={value!r} in the last item: {status} {answer}")
    skus = [item["sku"] for item in body]
    left = world.fetch("select count(*) as n from products where sku = any($1::text[])", skus)[0]["n"]
    if left:
        raise Different(f"{contestant.name} refuses a batch, and stores {left} of its items")


def _leaves_traces(world: World, server: Server, runs: Runs) -> None:
    """Check that BYO DPP writes the audit entries and events that the manifest declares."""
    traces = (
        "select (select count(*) from audit_logs) as audits, (select count(*) from byodpp.events()) as events"
    )
    for name, audits, events in (("create", 1, 1), ("patch", 1, 0), ("batch", BATCH, BATCH)):
        before = world.fetch(traces)[0]
        request = requests_of(WORKS[name], CONTESTANTS["byodpp"].addresses[name], world)[0]
        body, _ = runs.fill(request.body)
        ask(
            server.port,
            Request(
                method=request.method,
                path=request.path,
                token=request.token,
                tenant=request.tenant,
                body=body,
            ),
        )
        after = world.fetch(traces)[0]
        made = (after["audits"] - before["audits"], after["events"] - before["events"])
        if made != (audits, events):
            raise Different(f"byodpp {name}: {made} audit entries and events, not {(audits, events)}")
