"""Papers, revocation and a moved ID, with real daemons: a registrar, a member, and one that loses
its key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from permesh import schema
from permesh.config import Home
from permesh.demo import Member, wait_for

SECONDS = 60.0
HEARD_SECONDS = 10.0  # by when a revocation is known to who is connected


@dataclass
class Three:
    root: Path
    ann: Member
    ben: Member
    dan: Member

    def member(self, name: str) -> Member:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        return Member(name, Home(self.root / name), environment)


@pytest.fixture(scope="module")
def three(root: Path) -> Iterator[Three]:
    place = root / "papers"
    place.mkdir()
    three = Three(place, *[None] * 3)  # type: ignore[list-item]
    members = three.ann, three.ben, three.dan = [three.member(n) for n in ("ann", "ben", "dan")]
    try:
        for one in members:
            one.run("init", "--name", one.name)
        three.ann.run("mesh", "create", "orchard", "--person", "ann")
        three.ann.start()
        line = three.ann.client.invite().line
        for one in members[1:]:
            one.run("mesh", "join", line, "--person", one.name)
            one.start()
            wait_for(f"{one.name}'s request", SECONDS, partial(asks, three.ann, one.name))
            three.ann.run("members", "admit", one.name, "--person", one.name)
        for one in members:
            wait_for(f"{one.name} to see two others", SECONDS, partial(sees, one, 2))
        yield three
    finally:
        for one in members:
            halt(one)


def asks(registrar: Member, name: str) -> bool:
    return any(one.name == name for one in registrar.client.members().items)


def sees(member: Member, peers: int) -> bool:
    return len(member.client.status().peers) == peers


def halt(member: Member) -> None:
    if member.process is not None:
        member.signal(signal.SIGTERM)
        member.process.wait(20)
        member.process = None


def of(member: Member, name: str) -> schema.Member:
    return next(one for one in member.client.members().items if one.name == name)


def state(member: Member, name: str, wanted: str) -> bool:
    return of(member, name).state == wanted


def connected(member: Member, name: str) -> bool:
    return any(peer.name == name for peer in member.client.status().peers)


def ran(member: Member, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        member.command(*arguments),
        env=member.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip


def test_a_stranger_checks_a_members_papers(three: Three) -> None:
    papers, genesis = three.root / "dan.json", three.root / "genesis.json"
    papers.write_text(three.dan.run("id", "--export"))
    genesis.write_text(three.ben.run("mesh", "genesis"))  # any member's is the same
    stranger = three.member("stranger")
    told = stranger.run("verify", str(papers), "--genesis", str(genesis))
    assert told.startswith("Valid: dan is AGT-0003 of orchard, until ")
    answer = json.loads(stranger.run("verify", str(papers), "--genesis", str(genesis), "--json"))
    assert (answer["valid"], answer["number"]) == (True, "AGT-0003")

    forged = json.loads(papers.read_text())
    forged["agent"]["number"] = "AGT-0001"
    papers.write_text(json.dumps(forged))
    done = ran(stranger, "verify", str(papers), "--genesis", str(genesis))
    assert done.returncode == 1
    assert "'agent.number' is not what was signed" in done.stderr
    assert not stranger.home.root.exists()


def test_a_chronicle_tells_what_became_of_a_member(three: Three) -> None:
    told = three.ben.run("chronicle", "dan")
    assert "AGT-0003 dan" in told
    assert "admitted by ann (AGT-0001); met by the registrars who approved" in told
    own = json.loads(three.dan.run("chronicle", "--json"))
    kinds = [one["kind"] for one in own["items"]]
    assert kinds == ["admission", "rotation"] or kinds == ["rotation", "admission"]


def test_a_revoked_key_is_refused_and_the_id_lives_on_under_another(three: Three) -> None:
    ann, ben, dan = three.ann, three.ben, three.dan
    halt(ben)  # one that is away when it happens
    line, agent = ann.client.invite().line, dan.client.status().agent
    elsewhere = three.member("elsewhere")
    kept = three.root / "owner.json"
    kept.write_bytes((dan.home.keys / "owner.json").read_bytes())
    of_owner = ("--agent", agent, "--invite", line)
    told = elsewhere.run("owner", "revoke", "--yes", *of_owner, "--wallet", str(kept))
    # Not dan, whose address is in the invite as well: whoever has its key would say anything.
    assert told == f"ann tells orchard: revoke {agent}\n"
    wait_for("ann to drop it", HEARD_SECONDS, lambda: not connected(ann, "dan"))
    assert of(ann, "dan").state == "revoked"

    ben.start()
    wait_for("ben to hear of it", SECONDS, partial(state, ben, "dan", "revoked"))
    wait_for("ben to shut it out", HEARD_SECONDS, lambda: not connected(ben, "dan"))
    wait_for("dan to be told", SECONDS, lambda: "revoked" in dan.client.status().mesh.detail)
    halt(dan)

    fresh = three.member("fresh")
    fresh.run("init", "--name", "dan", "--owner-wallet", str(kept))
    fresh.run("owner", "move", *of_owner)
    try:
        fresh.start()
        wait_for("the new key to be let in", SECONDS, partial(sees, fresh, 2))
        assert fresh.client.status().number == "AGT-0003"
        moved = of(ben, "dan")
        assert (moved.number, moved.state) == ("AGT-0003", "member")
        assert moved.keys == [agent, fresh.client.status().agent]
    finally:
        halt(fresh)
