"""What the audit trail costs sixteen writers of one tenant: without entries, with them, and sealed.

Two servers of the same application, each on a PostgreSQL of its own: one of them seals. Comes in: how
long. Goes out: a `Growth` whose sizes are the three ways of writing. `python -m bench.audit` prints it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contestants import UNLIMITED
from bench.processes import Generator, Request, clean_environment, serving
from bench.turns import Sample, Side, _turn, turned
from scripts.ports import free_port

__all__ = ["measure"]

HERE = Path(__file__).parent
_FIELDS = {
    "name": {"type": "string", "required": True, "index": True},
    "amount": {"type": "integer"},
    "price": {"type": "decimal", "precision": 12, "scale": 2},
    "isActive": {"type": "boolean", "default": True},
    "metadata": {"type": "json", "default": {}},
    "remark": {"type": "text"},
}
_BODY = {"name": "lamp @@@@@@@@@@@@", "amount": 5, "price": 12.50, "remark": "made for a measurement"}
#: What was committed in the last second of a turn is sealed after it, and must not cost the next side.
_SEALING_SECONDS = 1.5
WITHOUT, WITH, SEALED = "without entries", "with entries, not sealed", "with entries, sealed"


def measure(place: Path, *, rounds: int, seconds: float, connections: int) -> dict[str, list[Sample]]:
    """Return the samples of the three ways of writing."""
    with Generator() as generator, ExitStack() as stack:
        open_ = stack.enter_context(_application(place / "open", sealing=False))
        sealed = stack.enter_context(_application(place / "sealed", sealing=True))
        sides = {WITHOUT: open_["plain"], WITH: open_["audited"], SEALED: sealed["audited"]}
        for side in sides.values():
            _turn(generator, side, 1.0, connections)
        samples: dict[str, list[Sample]] = {name: [] for name in sides}
        for number in range(rounds):
            for name in turned(list(sides), number):
                samples[name].append(_turn(generator, sides[name], seconds, connections))
                if name == SEALED:
                    time.sleep(_SEALING_SECONDS)
        return samples


@contextmanager
def _application(folder: Path, *, sealing: bool) -> Iterator[dict[str, Side]]:
    folder.mkdir()
    resources = [
        {"name": name, "fields": _FIELDS, "audit": name == "Audited"} for name in ("Plain", "Audited")
    ]
    (folder / "resources.json").write_text(json.dumps({"resources": resources}))
    switch = {"BYODPP_AUDIT_SEALER": "true" if sealing else "false"}
    environment = clean_environment(**UNLIMITED, **switch, PYTHONPATH=str(HERE.parent))
    program = [sys.executable, "-m", "byodpp", "--app", str(folder)]
    for step in ("new", "apply"):
        subprocess.run([*program, "migrate", step], env=environment, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    command = [*program, "serve", "--port", str(port), "--no-demo"]
    probe = Request(method="GET", path="/health/ready")
    with serving(command, environment, port, probe, folder / "serve.log") as server:
        words = [*program, "token", "--tenant", "acme"]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        pid = json.loads((folder / ".byodpp" / "postgres.json").read_text())["pid"]
        sides = {}
        for name in ("plain", "audited"):
            asked = Request(method="POST", path=f"/api/v1/{name}", token=done.stdout.strip(), body=_BODY)
            sides[name] = Side(server=server, requests=[asked.text()], database=pid, status=201)
        yield sides


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each turn")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="byodpp-bench-") as place:
        samples = measure(
            Path(place), rounds=options.rounds, seconds=options.seconds, connections=options.connections
        )
    first = samples[WITHOUT]
    print(f"{'':27}{'per second':>11}{'of the first':>14}{'server us':>11}{'PostgreSQL us':>15}")
    for name, found in samples.items():
        ratios = [one.rate / other.rate for one, other in zip(found, first, strict=True)]
        middle = [statistics.median(values) for values in (
            [one.rate for one in found], ratios, [one.cost for one in found], [one.database for one in found]
        )]  # fmt: skip
        print(f"{name:27}{middle[0]:11,.0f}{middle[1]:14.3f}{middle[2]:11.0f}{middle[3]:15.0f}")


if __name__ == "__main__":
    main()
