"""What the document promises, schemathesis asks for: valid data pass, invalid data are refused, answers fit.

A few examples per operation here, and of the reference application those that its document shows;
`BYODPP_CONTRACT_EXAMPLES=200 pytest tests/test_contract.py` takes half an hour and also walks the coverage
of every schema. Settings and their reasons: schemathesis.toml.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvicorn

from byodpp.bootstrap import assemble
from byodpp.testing import Bench

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "tests" / "contract_application"
#: Examples per operation; more than the usual few also switch on the coverage phase.
EXAMPLES = int(os.environ.get("BYODPP_CONTRACT_EXAMPLES", "0"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "phases"),
    [(CONTRACT, "examples,fuzzing"), (ROOT, "examples")],
    ids=["contract", "reference"],
)
async def test_the_server_keeps_what_its_document_promises(
    folder: Path, phases: str, byodpp_bench: Bench, tmp_path: Path
) -> None:
    async with byodpp_bench.application(assemble(folder), rate_limit_enabled=False) as tested:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
            config = uvicorn.Config(tested.asgi, lifespan="off", log_level="warning", access_log=False)
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                status, report = await asyncio.to_thread(
                    ask, port, tested.token(role="Admin"), tmp_path, phases
                )
            finally:
                server.should_exit = True
                await serving
    assert status == 0, report


def ask(port: int, token: str, folder: Path, phases: str) -> tuple[int, str]:
    """Run schemathesis against a port; return its exit status and what it printed."""
    if EXAMPLES:
        phases = "examples,coverage,fuzzing"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
        *("run", f"http://127.0.0.1:{port}/openapi.json", "--phases", phases, "-n", str(EXAMPLES or 5)),
        *(
            "-H",
            f"Authorization: Bearer {token}",
            "--no-color",
            "--seed",
            os.environ.get("BYODPP_TEST_SEED", "1"),
        ),
    ]
    # From a folder of its own: it keeps what it found beside itself.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=7_200 if EXAMPLES else 600,
    )
    return done.returncode, done.stdout[-20_000:] + done.stderr[-5_000:]
