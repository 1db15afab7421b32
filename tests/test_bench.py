"""The benchmark's own arithmetic, and all of it once, small, on the real parts."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from bench import authorization, contestants
from bench.__main__ import parsed, plan_of, scale_of
from bench.comparison import Plan, measure
from bench.figures import Ratio, interval, ratio, verdict
from bench.growth import Scale
from bench.growth import measure as measure_growth
from bench.load import UNIQUE, Connection, Load, Tally, loaded
from bench.processes import tree
from bench.report import comparison_report, growth_report, growth_rounds, rounds_report
from bench.sameness import Different, normal
from bench.turns import turned
from bench.works import WORKS
from bench.world import Size, World, made
from byodpp.embedded.process import is_running

SMALL = Size(tenants=2, categories=3, products=40, parts=2)


def test_a_ratio_is_the_median_of_the_rounds_ratios_not_the_ratio_of_medians() -> None:
    found = ratio([10, 40, 90], [10, 20, 10])
    assert found.median == 2.0
    assert found.low == 1.0 and found.high == 9.0


def test_an_interval_holds_the_median_and_repeats() -> None:
    values = [0.9, 1.0, 1.1, 1.0, 0.95, 1.05, 1.0]
    low, high = interval(values)
    assert 0.9 <= low <= 1.0 <= high <= 1.1
    assert interval(values) == (low, high)
    assert interval([3.0] * 7) == (3.0, 3.0)


@pytest.mark.parametrize("theirs", [[], [1.0], [1.0, 0.0]])
def test_series_that_do_not_belong_together_are_refused(theirs: list[float]) -> None:
    with pytest.raises(ValueError):
        ratio([1.0, 2.0], theirs)


def test_a_verdict_needs_the_whole_interval() -> None:
    def judged(low: float, high: float, target: float, *, most: bool = False) -> str:
        return verdict(Ratio(median=(low + high) / 2, low=low, high=high, rounds=7), target, most=most)

    assert judged(4.0, 5.0, 4) == "met"
    assert judged(3.0, 3.9, 4) == "missed"
    assert judged(3.9, 4.1, 4) == "not shown"
    assert judged(1.0, 1.2, 1.2, most=True) == "met"
    assert judged(1.3, 1.4, 1.2, most=True) == "missed"
    assert judged(1.1, 1.3, 1.2, most=True) == "not shown"


def test_a_handful_of_rounds_shows_nothing_however_clear_they_look() -> None:
    assert verdict(ratio([8.0] * 5, [1.0] * 5), 4) == "not shown"
    assert verdict(ratio([8.0] * 6, [1.0] * 6), 4) == "met"


def test_values_are_compared_as_what_they_mean_and_nothing_is_left_out() -> None:
    one = {"price": "12.50", "parts": [{"weight": 1}], "createdAt": "2026-11-26T12:00:00+01:00", "stock": 1}
    assert normal(one) == {
        "price": Decimal("12.5"),
        "parts": [{"weight": Decimal(1)}],
        "createdAt": datetime(2026, 11, 26, 11, tzinfo=UTC),
        "stock": 1,
    }
    assert normal({"price": None}) == {"price": None}
    assert normal({"stock": "1"}) != normal({"stock": 1})
    assert normal({"price": "1"}) != normal({"price": "1", "more": None})


async def test_every_place_for_a_unique_number_gets_one_of_its_own_and_the_length_stays() -> None:
    text = f'POST / HTTP/1.1\r\n\r\n{{"a":"{UNIQUE.decode()}","b":"{UNIQUE.decode()}"}}'
    load = loaded({"host": "", "port": 0, "requests": [text], "connections": 1, "seconds": 1.0, "first": 7})
    tally = Tally(load.first)
    connection = Connection(load, tally, 0, 0.0)
    sent = [connection._numbered(load.requests[0]).decode() for _ in range(2)]
    assert sent[0].endswith('{"a":"000000000007","b":"000000000008"}')
    assert sent[1].endswith('{"a":"000000000009","b":"000000000010"}')
    assert len(sent[0]) == len(text) and tally.number == 11


async def test_an_answer_in_pieces_is_counted_once_and_a_refused_one_is_told() -> None:
    load = Load(host="", port=0, requests=[[b"x"]], connections=1, seconds=1.0)
    tally = Tally(0)
    connection = Connection(load, tally, 0, deadline=0.0)
    connection.transport = Closed()  # type: ignore[assignment]
    for piece in (b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r\nab", b"cde"):
        connection.data_received(piece)
    assert (tally.answers, tally.failures) == (1, 0)
    connection.data_received(b"HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n")
    assert (tally.answers, tally.failures) == (1, 1)
    assert tally.refusal.startswith("HTTP/1.1 422")


class Closed:
    """A transport after the time is up."""

    def close(self) -> None:
        """Do nothing more."""


@pytest.mark.parametrize(
    "words", [["--only", "raed"], ["--contestants", "bare,nobody"], ["--connections", "0"], ["--rounds", "x"]]
)
def test_an_option_that_means_nothing_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(words)
    assert "error: argument" in capsys.readouterr().err


def test_one_thing_can_be_measured_alone() -> None:
    options = parsed(["--only", "read,list", "--contestants", "bare,byodpp", "--connections", "16"])
    plan = plan_of(options)
    assert options.parts == ("comparison",)
    assert (plan.works, plan.contestants) == (("read", "list"), ("bare", "byodpp"))
    assert [(work.name, number) for work, number in plan.steps()] == [("read", 16), ("list", 16)]
    assert parsed(["--parts", "rows"]).parts == ("rows",)
    assert scale_of(parsed(["--parts", "rows", "--quick"])).rows[-1] < Scale().rows[-1]


def test_writers_in_one_tenant_stand_beside_as_many_in_all_of_them() -> None:
    plan = Plan(contestants=("byodpp",), works=("create", "create1"))
    steps = [(work.name, number) for work, number in plan.steps()]
    assert steps == [("create", 1), ("create", 16), ("create", 64), ("create1", 16)]


def test_every_side_has_a_turn_in_each_round_and_none_is_always_first() -> None:
    rounds = [list(turned(["a", "b", "c"], number)) for number in range(6)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert {one[0] for one in rounds} == {one[-1] for one in rounds} == {"a", "b", "c"}


def test_what_the_competitors_share_with_the_project_is_of_the_same_version() -> None:
    root = Path(__file__).parent.parent / "requirements"
    pinned = {
        kind: dict(
            re.findall(r"^([a-z0-9_.-]+)(?:\[.*?\])?==(\S+)", (root / f"{kind}.txt").read_text(), re.M)
        )
        for kind in ("runtime", "bench")
    }
    assert {"fastapi", "fastcrud", "django", "djangorestframework", "gunicorn"} <= pinned["bench"].keys()
    shared = pinned["bench"].keys() & pinned["runtime"].keys()
    assert {"asyncpg", "sqlalchemy", "starlette", "uvicorn"} <= shared
    assert {name: pinned["bench"][name] for name in shared} == {
        name: pinned["runtime"][name] for name in shared
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with made(tmp_path_factory.mktemp("bench") / "app", SMALL) as found:
        yield found


@pytest.mark.slow
def test_all_works_are_done_alike_by_the_bare_limit_and_by_byodpp(world: World) -> None:
    plan = Plan(contestants=("bare", "byodpp"), works=tuple(WORKS), connections=(2,), rounds=2, seconds=0.3)
    found = measure(world, plan)
    assert set(found.samples) == {(name, 2) for name in WORKS}
    for samples in found.samples.values():
        for rounds in samples.values():
            assert len(rounds) == 2
            # A turn that is so short may pass without an answer where others compute; not both.
            answered = [one for one in rounds if one.rate > 0]
            assert answered
            assert all(one.cost > 0 and one.p50 <= one.p99 for one in answered)
    assert all(20e6 < size < 500e6 for size in found.memory.values())
    text = "\n".join([*comparison_report(found, plan, SMALL), *rounds_report(found, plan)])
    for work in WORKS.values():
        assert f"| {work.title} | 2 |" in text
        assert f"### {work.title}, 2 connections" in text
    assert world.fetch("select count(*) as n from products")[0]["n"] == SMALL.tenants * SMALL.products


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        pytest.param("resources", [("1", "2")], marks=pytest.mark.slow),
        pytest.param("tenants", [("1", "2")] * 3, marks=pytest.mark.slow),
        ("rows", [("40", "100")] * 4 + [("the first", "behind row 90")] * 2),
    ],
)
def test_growth_is_measured_from_the_smallest_to_the_largest(
    tmp_path: Path, kind: str, sizes: list[tuple[str, ...]]
) -> None:
    scale = Scale(resources=(1, 2), tenants=(1, 2), rows=(40, 100), rounds=2, seconds=0.3, connections=2)
    told: list[str] = []
    growths = measure_growth(tmp_path, scale, [kind], told.append)
    assert [tuple(growth.samples) for growth in growths] == sizes
    assert len(told) == len(growths)
    # A turn that is so short may pass without an answer where others compute; not all of a side's.
    assert all(any(one.rate > 0 for one in ones) for growth in growths for ones in growth.samples.values())
    text = "\n".join([*growth_report(growths, scale), *growth_rounds(growths)])
    for growth in growths:
        assert text.count(f"### {growth.title[0].upper()}{growth.title[1:]}\n") == 2
    assert text.count("; at least ") == sum(growth.target is not None for growth in growths)


@pytest.mark.slow
def test_authorization_is_measured_beside_the_same_without_it(tmp_path: Path) -> None:
    scale = authorization.Scale(
        asking=2, products=40, tenants=4, policies=7, rounds=2, seconds=0.3, connections=2
    )
    samples = authorization.measure(tmp_path, scale)
    assert list(samples) == [authorization.UNGUARDED, authorization.GUARDED, authorization.MANY]
    assert all(any(one.rate > 0 for one in ones) for ones in samples.values())
    assert all(one.cost > 0 for ones in samples.values() for one in ones if one.rate > 0)
    text = "\n".join(authorization.report(samples))
    assert text.count("promised") == 2 * len(authorization.PROMISES)
    assert text.count("by the least computing of all rounds") == len(authorization.PROMISES)


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_leaves_no_server_behind(tmp_path: Path) -> None:
    words = ["--only", "read", "--contestants", "bare,byodpp", "--connections", "1", "--rounds", "1000"]
    command = [sys.executable, "-m", "bench", *words, "--tenants", "2", "--products", "40"]
    run = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert run.stderr is not None
    with run.stderr as told:
        assert any("comparing answers" in line for line in told)
        database = next(tmp_path.glob("*/comparison/.byodpp/postgres.json"))
        pids = {*tree(run.pid), json.loads(database.read_text())["pid"]} - {run.pid}
        assert len(pids) >= 3  # the database and both servers
        run.terminate()
        assert run.wait(30) == 128 + signal.SIGTERM
    assert [pid for pid in pids if is_running(pid)] == []
    assert not list(tmp_path.glob("byodpp-bench-*"))


@pytest.mark.slow
def test_nothing_is_measured_when_a_contestant_answers_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = contestants.CONTESTANTS["bare"]
    shorter = {**bare.addresses, "list": "/api/v1/products?limit=19"}
    monkeypatch.setitem(contestants.CONTESTANTS, "bare", dataclasses.replace(bare, addresses=shorter))
    plan = Plan(contestants=("byodpp", "bare"), works=("list",), connections=(1,), rounds=1, seconds=0.1)
    with pytest.raises(Different, match="bare says"):
        measure(world, plan)


@pytest.mark.slow
def test_a_batch_whose_items_are_not_validated_is_not_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.sameness._CARELESS", frozenset())
    plan = Plan(contestants=("bare",), works=("batch",), connections=(1,), rounds=1, seconds=0.1)
    with pytest.raises(Different, match="in the last item"):
        measure(world, plan)
