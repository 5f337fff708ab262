"""Chronicles, proposals, releases and owners' statements: the real server and all its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from permesh import schema
from permesh.client import AsyncClient, Client
from permesh.errors import PermeshError
from permesh.identity.owner import OwnerStatement
from permesh.identity.wallet import Wallet
from tests.api.fakenode import AGENT, NOW, Daemon, raw

Ask = Callable[[Callable[[Any], Any]], Any]

MESH = bytes.fromhex("cd" * 32)
LONGEST_STATEMENT = 4096  # hex digits


@pytest.fixture(params=["blocking", "asyncio", "trio"])
def ask(daemon: Daemon, request: pytest.FixtureRequest) -> Ask:
    """Calls a method of one of the three kinds of client."""

    def blocking(call: Callable[[Client], Any]) -> Any:
        with Client(daemon.home.socket) as client:
            return call(client)

    async def awaited(call: Callable[[AsyncClient], Any]) -> Any:
        async with AsyncClient(daemon.home.socket) as client:
            return await call(client)

    return {
        "blocking": blocking,
        "asyncio": lambda call: asyncio.run(awaited(call)),
        "trio": lambda call: trio.run(awaited, call),
    }[request.param]


def refused(ask: Ask, call: Callable[[Any], Any]) -> PermeshError:
    with pytest.raises(PermeshError) as caught:
        ask(call)
    assert caught.value.message
    return caught.value


def problem(answer: httpx.Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"code", "message", "remedy"}
    return body["error"]


def release(version: str = "0.2.0") -> schema.NewProposal:
    return schema.NewProposal(kind="release", version=version, runtime_hash="ab" * 32)


# -- what is told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["atlas", "AGT-0001", AGENT])
def test_a_chronicle_is_read_by_whatever_a_member_is_called(ask: Ask, reference: str) -> None:
    found = ask(lambda client: client.chronicle(reference))
    assert isinstance(found, schema.Chronicle)
    assert (found.agent, found.number, found.name) == (AGENT, "AGT-0001", "atlas")
    assert [one.kind for one in found.items] == ["admission"]


def test_every_line_of_a_chronicle_arrives_as_it_is(daemon: Daemon, ask: Ask) -> None:
    daemon.node.public_record = [
        schema.ChronicleEvent(at_ms=NOW + at, kind=kind, text=f"line\n{at} \u202e", entry=at)
        for at, kind in enumerate(
            ("admission", "title", "suspension", "key", "rotation", "task", "fault")
        )
    ]
    daemon.node.left_out = 7
    found = ask(lambda client: client.chronicle("atlas"))
    assert found.items == daemon.node.public_record
    assert found.left_out == 7


@pytest.mark.parametrize("reference", ["nobody", "a b", "é\u202e", "%2e", "x" * 300])
def test_nobody_has_no_chronicle(ask: Ask, reference: str) -> None:
    error = refused(ask, lambda client: client.chronicle(reference))
    assert (error.code, error.http_status) == ("members.unknown", 404)
    assert reference in error.message


@pytest.mark.parametrize("reference", ["", "a/b", "..", "../status"])
def test_what_is_no_part_of_a_path_is_a_problem_too(ask: Ask, reference: str) -> None:
    for call in (
        lambda client: client.chronicle(reference),
        lambda client: client.approve(reference),
    ):
        error = refused(ask, call)
        assert (error.code, error.http_status) == ("name.invalid", 400)


# -- what is decided -------------------------------------------------------------------------------


def test_a_proposal_is_made_listed_and_approved(daemon: Daemon, ask: Ask) -> None:
    assert ask(lambda client: client.proposals()).items == []
    assert ask(lambda client: client.releases()).items == []
    made = ask(lambda client: client.propose(release()))
    assert isinstance(made, schema.Proposal)
    assert (made.approvals, made.needed, made.decided) == (["AGT-0001"], 2, False)
    assert ask(lambda client: client.proposals()).items == [made]
    again = ask(lambda client: client.approve(made.id[:8]))
    assert again == made  # once more is not twice
    daemon.run(daemon.node.approved_by_another)
    assert ask(lambda client: client.proposals()).items == []
    assert ask(lambda client: client.releases()).items == [
        schema.Release(version="0.2.0", runtime_hash="ab" * 32, accepted=True, decided_ms=NOW)
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        schema.NewProposal(kind="registrars", removed="atlas"),
        schema.NewProposal(kind="suspension", agent="atlas", reason="Away: 'é' \u202e\n"),
        schema.NewProposal(kind="suspension", agent="atlas", reason="é" * 200),
        schema.NewProposal(kind="reinstatement", agent="AGT-0001"),
        schema.NewProposal(kind="release", version="0" * 32, runtime_hash="0" * 64, accepted=False),
        schema.NewProposal(kind="resolution", root="77aa"),
    ],
    ids=lambda wanted: wanted.kind,
)
def test_each_kind_of_wish_reaches_the_node_whole(
    daemon: Daemon, ask: Ask, wanted: schema.NewProposal
) -> None:
    daemon.node.ways_on = ["77aa" * 16, "88bb" * 16]
    made = ask(lambda client: client.propose(wanted))
    assert made.kind == wanted.kind
    assert daemon.node.wanted == {made.id: wanted}


def test_a_proposal_answers_with_201(daemon: Daemon) -> None:
    with raw(daemon) as http:
        answer = http.post("/proposals", json={"kind": "release", "version": "0.2.0"})
        assert answer.status_code == 201
        approved = http.post(f"/proposals/{answer.json()['id']}/approve")
        assert (approved.status_code, approved.json()) == (200, answer.json())


def test_what_the_node_refuses_arrives_as_it_was_raised(daemon: Daemon, ask: Ask) -> None:
    nothing = refused(ask, lambda client: client.propose(schema.NewProposal(kind="registrars")))
    assert (nothing.code, nothing.http_status) == ("identity.field", 400)
    nobody = schema.NewProposal(kind="suspension", agent="nobody")
    error = refused(ask, lambda client: client.propose(nobody))
    assert (error.code, error.http_status) == ("members.unknown", 404)
    error = refused(ask, lambda client: client.approve("77"))
    assert (error.code, error.http_status) == ("proposal.unknown", 404)
    assert error.remedy == "See what waits: permesh proposals"
    for number in range(17):  # so that two begin alike
        ask(lambda client, number=number: client.propose(release(f"0.{number}")))
    begins = [one[0] for one in daemon.node.waiting]
    twice = next(one for one in begins if begins.count(one) > 1)
    error = refused(ask, lambda client: client.approve(twice))
    assert (error.code, error.http_status) == ("proposal.ambiguous", 409)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "promotion"}, "kind"),
        ({"kind": "Release"}, "kind"),
        ({"kind": None}, "kind"),
        ({}, "kind"),
        ({"kind": "suspension", "agent": "x" * 65}, "agent"),
        ({"kind": "suspension", "agent": 1}, "agent"),
        ({"kind": "suspension", "agent": "atlas", "reason": "x" * 201}, "reason"),
        ({"kind": "registrars", "added": "x" * 65}, "added"),
        ({"kind": "registrars", "removed": "x" * 65}, "removed"),
        ({"kind": "registrars", "removed": ["atlas"]}, "removed"),
        ({"kind": "release", "version": "x" * 33}, "version"),
        ({"kind": "release", "runtime_hash": "ab" * 31}, "runtime_hash"),
        ({"kind": "release", "runtime_hash": "ab" * 33}, "runtime_hash"),
        ({"kind": "release", "runtime_hash": "AB" * 32}, "runtime_hash"),
        ({"kind": "release", "runtime_hash": "xy" * 32}, "runtime_hash"),
        ({"kind": "release", "runtime_hash": "ab" * 32 + "\n"}, "runtime_hash"),
        ({"kind": "release", "accepted": "maybe"}, "accepted"),
        ({"kind": "resolution", "root": "7" * 65}, "root"),
    ],
    ids=lambda value: str(value)[:48],
)
def test_a_wish_of_the_wrong_shape_is_refused_and_the_field_named(
    daemon: Daemon, body: dict[str, object], field: str
) -> None:
    with raw(daemon) as http:
        answer = http.post("/proposals", json=body)
    assert answer.status_code == 400
    found = problem(answer)
    assert found["code"] == "request.invalid"
    assert f"'{field}'" in found["message"]
    assert len(found["message"]) < 400
    assert daemon.node.wanted == {}


@pytest.mark.parametrize("path", ["/proposals", "/owner"])
def test_a_body_that_is_no_object_is_told_what_to_send(daemon: Daemon, path: str) -> None:
    with raw(daemon) as http:
        for more in ({}, {"json": ["release"]}, {"json": "release"}, {"content": b"\xff"}):
            answer = http.post(path, **more)
            assert answer.status_code == 400
            assert problem(answer)["code"] == "request.invalid"
            assert "application/json" in problem(answer)["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/proposals", 405),
        ("GET", "/owner", 405),
        ("POST", "/releases", 405),
        ("GET", "/proposals/77/approve", 405),
        ("POST", "/members/atlas/chronicle", 405),
        ("GET", "/proposals/77", 404),
        ("GET", "/members//chronicle", 404),
        ("POST", "/proposals//approve", 404),
    ],
)
def test_other_ways_to_call_the_paths_are_problems(
    daemon: Daemon, method: str, path: str, status: int
) -> None:
    with raw(daemon) as http:
        answer = http.request(method, path)
    assert answer.status_code == status
    assert problem(answer)["code"].startswith("request.")


# -- what an owner says ----------------------------------------------------------------------------


def test_an_owners_statement_reaches_the_node_as_it_was_signed(daemon: Daemon, ask: Ask) -> None:
    owner = Wallet.from_key(b"\x07" * 32)
    said = OwnerStatement.revoke(MESH, owner, bytes.fromhex(AGENT[2:]), NOW)
    assert ask(lambda client: client.tell_owner(said.encode().hex())) == schema.Told(name="atlas")
    [heard] = daemon.node.owners_say
    assert heard == said
    heard.verify(MESH)


def test_bytes_that_are_no_statement_are_refused_by_the_node(daemon: Daemon, ask: Ask) -> None:
    for statement in ("00", "ff" * 300, "0f" * (LONGEST_STATEMENT // 2)):
        error = refused(ask, lambda client, it=statement: client.tell_owner(it))
        assert error.http_status == 400
        assert error.code in ("identity.field", "format.msgpack", "format.too_long")
    assert daemon.node.owners_say == []


def test_what_is_no_hex_or_too_much_of_it_is_refused_before(daemon: Daemon, ask: Ask) -> None:
    for statement in (
        "", "0", "000", "0x00", "AA", "0g", "00 00", "00\n", "é0", "٣٣",
        "00" * (LONGEST_STATEMENT // 2 + 1),
    ):  # fmt: skip
        error = refused(ask, lambda client, it=statement: client.tell_owner(it))
        assert (error.code, error.http_status) == ("request.invalid", 400)
        assert "'statement'" in error.message
        assert len(error.message) < 400
        assert error.remedy == "The schema is at /openapi.json."
    assert daemon.node.owners_say == []


def test_the_new_paths_stand_in_the_schema(daemon: Daemon) -> None:
    with raw(daemon) as http:
        paths = http.get("/openapi.json").json()["paths"]
    assert {
        "/members/{agent}/chronicle": {"get"},
        "/proposals": {"get", "post"},
        "/proposals/{proposal}/approve": {"post"},
        "/releases": {"get"},
        "/owner": {"post"},
    }.items() <= {path: set(methods) for path, methods in paths.items()}.items()
