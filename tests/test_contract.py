"""What the document promises, schemathesis asks for: valid data pass, invalid data are refused, answers fit.

A few examples per operation here, and of the reference application those that its document shows. The soak
walks the coverage of every schema: each value at and beyond each bound, by the thousand.
`BYODPP_CONTRACT_EXAMPLES=200` has it make random examples, too; `BYODPP_CONTRACT_GROUPS=/units` walks over
some groups of addresses only. Settings and their reasons: schemathesis.toml.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn

from byodpp.bootstrap import Blueprint, assemble
from byodpp.definitions import Scope
from byodpp.http_protocol import HttpProtocol
from byodpp.server import listen
from byodpp.testing import Bench, TestedApplication

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "tests" / "contract_application"
SEED = os.environ.get("BYODPP_TEST_SEED", "1")
#: Random examples per operation beside the coverage.
EXAMPLES = int(os.environ.get("BYODPP_CONTRACT_EXAMPLES", "0"))
GROUPS = re.compile(os.environ.get("BYODPP_CONTRACT_GROUPS", ""))
#: How long one group of addresses may take.
SECONDS = 7_200
#: That are asked at once: one thinks while the server answers another.
AT_ONCE = 2


@asynccontextmanager
async def listening(bench: Bench, blueprint: Blueprint) -> AsyncIterator[tuple[TestedApplication, int]]:
    """Serve an application as `byodpp serve` does; yield it and its port."""
    async with bench.application(blueprint, rate_limit_enabled=False) as tested:
        with listen("127.0.0.1", 0) as listener:
            config = uvicorn.Config(
                tested.asgi, http=HttpProtocol, lifespan="off", log_level="error", access_log=False
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield tested, listener.getsockname()[1]
            finally:
                server.should_exit = True
                await serving


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "phases"),
    [(CONTRACT, "examples,fuzzing"), (ROOT, "examples")],
    ids=["contract", "reference"],
)
async def test_the_server_keeps_what_its_document_promises(
    folder: Path, phases: str, byodpp_bench: Bench, tmp_path: Path
) -> None:
    async with listening(byodpp_bench, assemble(folder)) as (tested, port):
        asked = await ask(port, tested.token(role="Admin"), tmp_path, phases, "", seconds=840)
    assert asked.status == 0, asked.report


@pytest.mark.soak
@pytest.mark.parametrize("folder", [CONTRACT, ROOT], ids=["contract", "reference"])
async def test_every_case_that_a_document_holds_is_answered_as_it_says(
    folder: Path, byodpp_bench: Bench, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    blueprint = assemble(folder)
    phases = "examples,coverage,fuzzing" if EXAMPLES else "examples,coverage"
    at_once = asyncio.Semaphore(AT_ONCE)
    async with listening(byodpp_bench, blueprint) as (tested, port):
        answer = await tested.client().get("/openapi.json")
        groups = [one for one in groups_of(json.loads(answer.content)["paths"]) if GROUPS.search(one)]

        async def walk(number: int, group: str) -> Asked:
            async with at_once:
                # A tenant and a user for each, since some operations lock out whoever calls them. What only
                # the platform writes is asked by it: others are refused before their data are looked at.
                tenant = "platform" if group in written_by_operators(blueprint) else f"group-{number}"
                if tenant != "platform":
                    await tested.add_tenant(tenant)
                until = int(time.time()) + SECONDS
                token = tested.token(role="Admin", tenant=tenant, user=f"user-{number}", exp=until)
                place = tmp_path / str(number)
                place.mkdir()
                pattern = f"^{re.escape(group)}(/|$)"
                return await ask(port, token, place, phases, pattern, seconds=SECONDS)

        asked = await asyncio.gather(*(walk(number, group) for number, group in enumerate(groups)))
    found = {group: one for group, one in zip(groups, asked, strict=True) if one.status}
    record_property("groups of addresses", len(groups))
    record_property("operations", sum(one.operations for one in asked))
    record_property("cases", sum(one.cases for one in asked))
    record_property("groups with findings", ", ".join(found) or 0)
    assert not found, "\n\n".join(f"{group}\n{one.report}" for group, one in found.items())


def groups_of(paths: dict[str, object]) -> list[str]:
    """Return how addresses begin: as those of a resource, or with the first word of what else there is."""
    begins = (re.match("/api/v[0-9]+/[^/]+|/[^/]*", path) for path in paths)
    return sorted({begin[0] for begin in begins if begin is not None})


def written_by_operators(blueprint: Blueprint) -> set[str]:
    """Return the groups of resources that only the platform writes."""
    return {one.base_url for one in blueprint.registry if one.scope is Scope.SHARED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What became of a run of schemathesis."""

    status: int  # 0: no finding
    report: str
    operations: int
    cases: int


async def ask(port: int, token: str, folder: Path, phases: str, pattern: str, *, seconds: float) -> Asked:
    """Run schemathesis against a port.

    Args:
        port: of the server.
        token: sent with each request.
        folder: where it keeps what it finds.
        phases: of schemathesis.
        pattern: of the addresses to ask; empty: all.
        seconds: after which it is ended, and has failed.
    """
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
        *("run", f"http://127.0.0.1:{port}/openapi.json", "--phases", phases, "-n", str(EXAMPLES or 5)),
        *("-H", f"Authorization: Bearer {token}", "--no-color", "--seed", SEED),
        *(("--include-path-regex", pattern) if pattern else ()),
    ]
    asking = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            told = (await asking.communicate())[0].decode(errors="replace")
    except TimeoutError:
        return Asked(status=-1, report=f"not done after {seconds:.0f} seconds", operations=0, cases=0)
    finally:
        if asking.returncode is None:
            asking.kill()
            await asking.wait()
    cases, tested = re.search(r"(\d+) generated", told), re.search(r"Tested: +(\d+)", told)
    return Asked(
        status=asking.returncode or 0,
        report=told[-20_000:],
        operations=int(tested[1]) if tested else 0,
        cases=int(cases[1]) if cases else 0,
    )
