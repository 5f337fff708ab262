"""A human behind an enrolment: vouched for by name, or by a soul read from a chain on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from permesh import offline
from permesh.config import Config, Home, IdentityConfig, render_config
from permesh.errors import PermeshError, Refused
from permesh.identity.enrolment import Enrolment
from permesh.identity.genesis import Genesis, Invite
from permesh.identity.keys import KeyFiles
from permesh.identity.person import CHITIN
from permesh.identity.wallet import Wallet
from permesh.remembered import read_mesh
from permesh.store import Store
from permesh.verifiers import Chitin, Vouched, verifiers
from tests.identity.chain import IMPLEMENTATION, Ledger, Server, Soul, serving
from tests.identity.people import Person, genesis


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, server: Server) -> Home:
    """One whose owner holds the soul "ann-soul" on the chain."""
    home = Home(tmp_path / "a")
    offline.create_identity(home, "atlas")
    config = Config(name="atlas", identity=IdentityConfig(base_rpc=server.url))
    home.config.write_text(render_config(config))
    owner = Wallet.load(KeyFiles(home).owner, None).address
    server.ledger = replace(Ledger(), souls={54: Soul(owner=owner)}, names={"ann-soul": 54})
    return home


def enrolled(home: Home, mesh: Genesis) -> Enrolment:
    offline.join_mesh(home, Invite(mesh, ()).line(), offline.soul_of(home, "ann-soul"))
    store = Store(home.database, read_only=True)
    try:
        return read_mesh(store)[1]
    finally:
        store.close()


def test_a_soul_stands_for_its_holder(home: Home, server: Server) -> None:
    mesh = genesis()
    enrolment = enrolled(home, mesh)
    enrolment.verify(mesh.mesh_id)  # the owner signs over the claim: that is the challenge
    assert enrolment.verifier == CHITIN
    trio.run(Chitin(mesh, server.url, frozenset({IMPLEMENTATION})).confirm, enrolment, None)

    again = Person("bob", requested_ms=1).enrols(
        verifier=CHITIN, person=enrolment.person, evidence=enrolment.evidence
    )
    with pytest.raises(Refused) as caught:  # somebody else's soul
        trio.run(Chitin(mesh, server.url).confirm, again, None)
    assert caught.value.code == "chitin.owner"
    other = replace(enrolment, person=bytes(32))
    with pytest.raises(Refused) as caught:  # a nullifier that the soul does not give
        trio.run(Chitin(mesh, server.url).confirm, other, None)
    assert caught.value.code == "person.other"
    with pytest.raises(Refused) as caught:  # another contract behind the proxy
        trio.run(Chitin(mesh, server.url, frozenset({bytes(20)})).confirm, enrolment, None)
    assert caught.value.code == "chitin.unknown_implementation"


def test_a_registrar_without_an_endpoint_cannot_tell(home: Home) -> None:
    mesh = genesis()
    enrolment = enrolled(home, mesh)
    found = verifiers(mesh, "", frozenset())
    assert set(found) == {"vouched", "chitin"}
    with pytest.raises(PermeshError) as caught:
        trio.run(found["chitin"].confirm, enrolment, None)
    assert caught.value.code == "chitin.no_endpoint"


def test_a_soul_that_the_owner_does_not_hold_is_not_enrolled(home: Home, server: Server) -> None:
    server.ledger = replace(server.ledger, souls={54: Soul()})
    with pytest.raises(Refused) as caught:
        offline.join_mesh(home, Invite(genesis(), ()).line(), offline.soul_of(home, "ann-soul"))
    assert caught.value.code == "chitin.owner"
    assert not home.database.exists()


def test_one_is_vouched_for_by_name_alone() -> None:
    ann = Person("ann")
    vouched = Vouched(ann.mesh)
    trio.run(vouched.confirm, ann.enrolment, "ANN@example.org ")
    for person, code in (
        ("ben@example.org", "person.other"),
        (None, "person.needed"),
        ("", "person.needed"),
    ):
        with pytest.raises(PermeshError) as caught:
            trio.run(vouched.confirm, ann.enrolment, person)
        assert caught.value.code == code
