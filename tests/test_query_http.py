"""Queries over HTTP: what a caller may not read cannot be asked about, and bounds are bounds."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from byodpp.bootstrap import Blueprint
from byodpp.testing import Bench, TestedApplication
from tests.worlds import HIDDEN, build

PEOPLE = "/api/v1/people"
TEAMS = "/api/v1/teams"


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("hidden"), HIDDEN)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(byodpp_bench: Bench, blueprint: Blueprint) -> AsyncIterator[TestedApplication]:
    """One database for all: nothing here writes but this."""
    async with byodpp_bench.application(blueprint) as tested:
        admin = tested.client()
        teams = [
            (await admin.post(TEAMS, json={"name": name, "budget": budget})).json()["data"]["id"]
            for name, budget in (("red", 1000), ("blue", 2000), ("secret", 3000))
        ]
        people = []
        for number in range(6):
            row = {
                "name": f"P{number}",
                "email": f"p{number}@example.com",
                "salary": 5000 + number,
                "status": "open" if number % 2 else "closed",
                "code": f"code{number}",
                "notes": {"a": number},
                "teamId": teams[number % 3],
            }
            people.append((await admin.post(PEOPLE, json=row)).json()["data"]["id"])
        for person in people:
            await admin.post("/api/v1/reviews", json={"text": f"review {person}", "personId": person})
        yield tested


def same(response: Any) -> str:
    """An answer without what differs between two requests for the same thing."""
    return re.sub(r'"(requestId|timestamp)":"[^"]*"', "", response.text)


# --- what is hidden answers no guess ----------------------------------------------------


def _asking(name: str) -> list[str]:
    """Every way to ask about a field, with a place for a guess."""
    return [
        f"filter[{name}]={{}}",
        f"filter[{name}][gte]={{}}",
        f"filter[{name}][in]={{}},1",
        f"filter[{name}][between]={{}},{{}}",
        f"filter[{name}][like]={{}}%25",
        f"filter[{name}][isNull]=true",
        f"filter[or][0][{name}]={{}}&filter[or][1][name]=P1",
        f"filter[not][{name}]={{}}",
        f"filter[and][0][not][or][0][{name}][lt]={{}}",
        f'filter={{{{"{name}":{{{{"eq":"{{}}"}}}}}}}}',
        f"sort={name}",
        f"sort=-{name}&limit=1",
        f"sort=name,{name}:desc:nullsFirst",
        f"fields={name}",
        f"fields=id,{name}",
    ]


HIDDEN_NAMES = [
    "email", "code", "notes", "notes.a", "team.budget", "reviews.text", "t0.email", "t1.email",
    "people.email", "email::text", "email->>'a'", 'email"', "tenantId", "tenant_id", "deletedAt",
    "team.people.email", "EMAIL",
]  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN_NAMES)
async def test_a_guess_about_a_hidden_field_is_answered_alike_right_or_wrong(
    world: TestedApplication, name: str
) -> None:
    viewer = world.client(role="Viewer")
    for form in _asking(name):
        if name == "reviews.text" and "isNull" in form:
            continue
        right = await viewer.get(f"{PEOPLE}?{form.format('p1@example.com', 'p1@example.com')}")
        wrong = await viewer.get(f"{PEOPLE}?{form.format('zz@example.com', 'zz@example.com')}")
        assert right.status_code == wrong.status_code == 400, (form, right.text)
        assert same(right).replace("p1@", "zz@") == same(wrong)


async def test_a_hidden_name_is_refused_in_the_words_for_one_that_never_was(world: TestedApplication) -> None:
    viewer = world.client(role="Viewer")
    for form in _asking("email"):
        hidden = await viewer.get(f"{PEOPLE}?{form.format(1, 1)}")
        unknown = await viewer.get(f"{PEOPLE}?{form.format(1, 1).replace('email', 'qzxwk')}")
        assert same(hidden).replace("email", "qzxwk") == same(unknown)
    for path in ("reviews", "nothing"):
        answer = await viewer.get(f"{PEOPLE}?include={path}")
        assert answer.status_code == 400
        assert (
            answer.json()["error"]["details"][0]["code"]
            == (await viewer.get(f"{PEOPLE}?include=nothing")).json()["error"]["details"][0]["code"]
        )


@pytest.mark.parametrize(
    "query",
    [
        "include=reviews",
        "include=team.people.reviews",
        "filter[reviews][some][text]=x",
        "filter[reviews][none][text]=x",
        "filter[reviews][every][text][like]=x",
        "include[team][fields]=budget&include=team",
        "fields[team]=budget&include=team",
        "include[team][filter][budget]=1&include=team",
        "filter[team.budget][gt]=1",
        "sort=team.budget",
    ],
)
async def test_no_relation_leads_to_what_is_hidden(world: TestedApplication, query: str) -> None:
    viewer = world.client(role="Viewer")
    response = await viewer.get(f"{PEOPLE}?{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_query"), response.text
    through = await viewer.get(f"{TEAMS}?filter[people][some][email]=p1@example.com")
    assert through.status_code == 400
    inside = await viewer.get(f"{TEAMS}?include=people&include[people][filter][email]=p1@example.com")
    assert inside.status_code == 400
    ordered = await viewer.get(f"{TEAMS}?include=people&include[people][sort]=email")
    assert ordered.status_code == 400


async def test_search_looks_only_into_what_the_caller_may_read(world: TestedApplication) -> None:
    admin, viewer = world.client(), world.client(role="Viewer")
    assert (await admin.get(f"{PEOPLE}?search=p1@example.com")).json()["count"] == 1
    right = await viewer.get(f"{PEOPLE}?search=p1@example.com")
    wrong = await viewer.get(f"{PEOPLE}?search=zz@example.com")
    assert same(right) == same(wrong)
    assert (await viewer.get(f"{PEOPLE}?search=P1")).json()["count"] == 1


async def test_a_field_that_is_visible_on_some_rows_is_null_and_unfindable_on_the_others(
    world: TestedApplication,
) -> None:
    viewer = world.client(role="Viewer")
    rows = (await viewer.get(f"{PEOPLE}?sort=name")).json()["data"]
    assert [row["salary"] for row in rows] == [None, 5001, None, 5003, None, 5005]
    for query in (
        "filter[salary]=5002",
        "filter[salary][in]=5000,5002,5004",
        "filter[salary][between]=5002,5002",
    ):
        answer = (await viewer.get(f"{PEOPLE}?{query}")).json()
        assert (answer["data"], answer["count"]) == ([], 0)
    ordered = [row["name"] for row in (await viewer.get(f"{PEOPLE}?sort=-salary:nullsLast")).json()["data"]]
    assert ordered[:3] == ["P5", "P3", "P1"] and sorted(ordered[3:]) == ordered[3:]
    assert (await viewer.get(f"{PEOPLE}?filter[salary][isNull]=true")).json()["count"] == 3
    teams = await viewer.get(f"{TEAMS}?filter[people][some][salary]=5002")
    assert teams.json()["data"] == []


async def test_rows_that_a_caller_may_not_read_are_nowhere(world: TestedApplication) -> None:
    viewer = world.client(role="Viewer")
    assert [row["name"] for row in (await viewer.get(TEAMS)).json()["data"]] == ["red", "blue"]
    people = (await viewer.get(f"{PEOPLE}?include=team&sort=name")).json()["data"]
    assert [row["team"] and row["team"]["name"] for row in people] == ["red", "blue", None] * 2
    assert all(row["team"] is None or row["team"].keys() == {"id", "name"} for row in people)
    assert (await viewer.get(f"{PEOPLE}?filter[team.name]=secret")).json()["data"] == []
    guess = await viewer.get(f"{PEOPLE}?filter[team.name][ne]=secret")
    wrong = await viewer.get(f"{PEOPLE}?filter[team.name][ne]=zzzzzz")
    assert same(guess) == same(wrong)


async def test_a_role_whose_fields_are_the_key_alone_gets_the_key_alone(world: TestedApplication) -> None:
    nobody = world.client(role="Nobody")
    rows = (await nobody.get(PEOPLE)).json()["data"]
    assert len(rows) == 6 and all(row.keys() == {"id"} for row in rows)
    for query in ("fields=", "fields=,", "fields=name"):
        assert (await nobody.get(f"{PEOPLE}?{query}")).status_code == 400, query
    assert (await nobody.get(f"{PEOPLE}?fields=id")).status_code == 200
    assert (await nobody.get(f"{PEOPLE}/{rows[0]['id']}")).json()["data"] == rows[0]


async def test_an_answer_to_a_write_shows_no_more_than_a_read(world: TestedApplication) -> None:
    admin = world.client(user="policy-maker")
    rule = {"subject": "Viewer", "object": "People", "action": "write", "fields": ["name", "status"]}
    made = await admin.post("/api/v1/policies", json=rule)
    assert made.status_code == 201, made.text
    viewer = world.client(role="Viewer")
    rows = (await viewer.get(f"{PEOPLE}?sort=name")).json()["data"]
    url = f"{PEOPLE}/{rows[0]['id']}"
    patched = await viewer.patch(url, json={"name": "P0"})
    assert patched.status_code == 200, patched.text
    assert patched.json()["data"].keys() == {"id", "name", "salary", "status", "teamId"}
    assert patched.json()["data"]["salary"] is None
    put = await viewer.put(url, json=rows[0])
    assert put.status_code == 200, put.text
    # Fields that he cannot see keep what they hold, and tell nothing when they are guessed.
    stored = (await admin.get(url)).json()["data"]
    assert (stored["email"], stored["salary"], stored["teamId"]) == (
        "p0@example.com",
        5000,
        rows[0]["teamId"],
    )
    guesses = [
        await viewer.put(url, json={**rows[0], "email": email})
        for email in ("p0@example.com", "zz@example.com")
    ]
    assert same(guesses[0]) == same(guesses[1])
    assert guesses[0].status_code == 403
    for salary in (5000, 5001):
        assert (await viewer.put(url, json={**rows[0], "salary": salary})).status_code == 403
    created = [
        await viewer.patch(url, json={"createdAt": stored["createdAt"]}),
        await viewer.patch(url, json={"createdAt": "2020-01-01T00:00:00Z"}),
    ]
    assert same(created[0]) == same(created[1])
    for moment in (stored["createdAt"], "2020-01-01T00:00:00Z"):
        answer = await viewer.put(url, json={**rows[0], "createdAt": moment})
        assert answer.status_code == 422
    assert (await admin.delete(f"/api/v1/policies/{made.json()['data']['id']}")).status_code == 204


# --- the language over the wire ---------------------------------------------------------


async def test_both_forms_of_a_filter_find_the_same(world: TestedApplication) -> None:
    admin = world.client()
    for brackets, tree in (
        ("filter[salary][gte]=5003", {"salary": {"gte": 5003}}),
        ("filter[name]=P1", {"name": "P1"}),
        (
            "filter[or][0][name]=P1&filter[or][1][salary][lt]=5001",
            {"or": [{"name": "P1"}, {"salary": {"lt": 5001}}]},
        ),
        ("filter[not][name]=P1", {"not": {"name": "P1"}}),
        ("filter[team.name]=red", {"team.name": "red"}),
        ("filter[reviews][some][text][like]=review", {"reviews": {"some": {"text": {"like": "review"}}}}),
        ("filter[name][in]=P1,P2", {"name": {"in": ["P1", "P2"]}}),
        ("filter[createdAt][gt]=2000-01-01T00:00:00Z", {"createdAt": {"gt": "2000-01-01T00:00:00Z"}}),
    ):
        one = await admin.get(f"{PEOPLE}?{brackets}")
        other = await admin.get(PEOPLE, params={"filter": json.dumps(tree)})
        assert one.status_code == other.status_code == 200, (one.text, other.text)
        assert one.json()["data"] == other.json()["data"] != []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("fitler[name]=P1", "unknown_parameter"),
        ("sort[]=name", "unknown_parameter"),
        ("filter[nmae]=P1", "unknown_field"),
        ("filter[name][equals]=P1", "unknown_operator"),
        ("sort=nmae", "unknown_field"),
        ("fields=nmae", "unknown_field"),
        ("include=taem", "unknown_relation"),
        ("count=exactly", "unknown_word"),
        ("filter[salary]=many", "type"),
        ("limit=5000", "out_of_range"),
        ("limit=" + "9" * 30, "out_of_range"),
        ("page=-" + "9" * 30, "out_of_range"),
        ("filter[id]=" + "9" * 20, "out_of_range"),
        ("filter[id][gt]=-" + "9" * 500, "out_of_range"),
        ("filter[id]=1.0", "type"),
        ("page=1&offset=0", "conflict"),
    ],
)
async def test_a_mistake_in_a_query_is_named_where_it_is(
    world: TestedApplication, query: str, code: str
) -> None:
    response = await world.client().get(f"{PEOPLE}?{query}")
    assert response.status_code == 400
    details = response.json()["error"]["details"]
    assert [one["code"] for one in details] == [code], details


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("filter=", "`filter` is not well-formed JSON: it is empty (line 1, column 1)."),
        ('filter={"name":"a","name":"b"}', 'An object of `filter` names the key "name" twice.'),
    ],
)
async def test_a_filter_that_is_no_json_is_not_called_a_body(
    world: TestedApplication, query: str, told: str
) -> None:
    response = await world.client().get(f"{PEOPLE}?{query}")
    assert [one["message"] for one in response.json()["error"]["details"]] == [told]


async def test_all_mistakes_of_a_query_come_at_once_with_suggestions(world: TestedApplication) -> None:
    response = await world.client().get(f"{PEOPLE}?filter[nmae]=x&sort=slaary&include=taem&limit=0&unknown=1")
    details = response.json()["error"]["details"]
    assert len(details) == 5
    told = " ".join(one["message"] for one in details)
    assert "name" in told and "salary" in told and "team" in told


@pytest.mark.parametrize(
    "query",
    [
        "include=team.people.team.people.team.people.team",
        "include=" + ",".join(f"team.people.team{n}" for n in range(100)),
        "include=team,team",
        "include=team.people&include[team.people][limit]=1000&limit=1000",
        "filter[name][in]=" + ",".join(str(n) for n in range(1_001)),
        "sort=name,email,salary,status,id,createdAt,updatedAt,teamId,team.name",
        "&".join(f"filter[or][{n}][name]=x" for n in range(101)),
        "filter" + "[not]" * 13 + "[name]=x",
    ],
)  # fmt: skip
async def test_a_query_past_its_bounds_is_400(world: TestedApplication, query: str) -> None:
    response = await world.client().get(f"{PEOPLE}?{query}")
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] in ("query_too_complex", "invalid_query")


async def test_a_query_where_none_belongs_is_400(world: TestedApplication) -> None:
    admin = world.client()
    key = (await admin.get(f"{PEOPLE}?limit=1")).json()["data"][0]["id"]
    for method, url in (
        ("POST", PEOPLE),
        ("PUT", f"{PEOPLE}/{key}"),
        ("PATCH", f"{PEOPLE}/{key}"),
        ("DELETE", f"{PEOPLE}/{key}"),
        ("POST", f"{PEOPLE}/batch"),
    ):
        response = await admin.request(
            method, f"{url}?fields=id", json={"name": "x"} if method != "DELETE" else None
        )
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_query")
    for query in ("limit=1", "filter[name]=x", "sort=name", "count=none", "search=x"):
        assert (await admin.get(f"{PEOPLE}/{key}?{query}")).status_code == 400
    one = await admin.get(f"{PEOPLE}/{key}?fields=name&include=team&fields[team]=name")
    assert one.json()["data"].keys() == {"name", "team"}
    assert one.json()["data"]["team"].keys() == {"name"}


async def test_pages_put_together_are_the_whole_in_order(world: TestedApplication) -> None:
    admin = world.client()
    whole = [row["id"] for row in (await admin.get(f"{PEOPLE}?sort=status")).json()["data"]]
    parts = []
    for page in (1, 2, 3):
        answer = (await admin.get(f"{PEOPLE}?sort=status&limit=2&page={page}")).json()
        parts += [row["id"] for row in answer["data"]]
    assert parts == whole
    assert (await admin.get(f"{PEOPLE}?limit=2&offset=3")).json()["pagination"]["page"] == 2
