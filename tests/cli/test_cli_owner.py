"""What the owner's wallet does alone: on real homes, the daemon in memory beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from permesh import offline, ownership
from permesh.config import Home
from permesh.errors import PermeshError
from permesh.identity.export import read_genesis
from permesh.identity.genesis import Genesis, Invite
from permesh.identity.owner import MOVE, REPAIR, REVOKE, OwnerStatement
from permesh.identity.wallet import Wallet
from permesh.remembered import read_mesh
from permesh.store import Store
from tests.api.fakenode import running

RECORD = "7f" * 32
OLD = "0x" + "c3" * 20
REVOKED = ["owner", "revoke", "--yes"]
REPAIRED = ["owner", "repair", "7", RECORD]


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(result: Result) -> str:
    """The one line on stderr."""
    assert result.exit_code == 1, result.output
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.output
    return result.stderr


def card(permesh) -> dict[str, str]:
    return json.loads(said(permesh("id", "--json")))


@pytest.fixture
def kept(home: Home, elsewhere) -> Path:
    """A copy of a keystore, as an owner keeps it."""
    said(elsewhere("old")("init", "--name", "atlas"))
    file = home.root / "kept.json"
    file.write_bytes((home.root / "old" / "keys" / "owner.json").read_bytes())
    return file


@pytest.fixture
def locked(home: Home, encrypted) -> tuple[Path, Wallet]:
    """One that "open sesame" opens."""
    file = home.root / "locked.json"
    return file, encrypted(file, "open sesame")


# -- init ------------------------------------------------------------------------------------------


def test_a_new_home_takes_the_owner_that_there_is(elsewhere, kept: Path) -> None:
    old, new = elsewhere("old"), elsewhere("new")
    shown = said(new("init", "--name", "birch", "--owner-wallet", str(kept)))
    assert card(old)["owner"] in shown
    assert "permesh owner move --agent 0xOLD --invite LINE" in shown
    assert card(new)["owner"] == card(old)["owner"]
    assert card(new)["agent"] != card(old)["agent"]
    assert card(new)["peer_id"] != card(old)["peer_id"]
    assert kept.exists()


def test_an_owner_with_a_passphrase_is_taken_with_it(
    home: Home, permesh, given, locked: tuple[Path, Wallet]
) -> None:
    file, owner = locked
    arguments = ("init", "--name", "birch", "--owner-wallet", str(file))
    for complaint, more in (
        ("is encrypted", []),
        ("does not open the keystore locked.json", ["--passphrase-fd", given("open barley\n")]),
    ):
        line = failed(permesh(*arguments, *more))
        assert complaint in line
        assert not home.keys.exists()
        assert not home.config.exists()
    said(permesh(*arguments, "--passphrase-fd", given("open sesame\n")))
    for name in ("owner", "agent"):
        opened = Wallet.load(home.keys / f"{name}.json", "open sesame")
        assert (opened.address == owner.address) == (name == "owner")
        with pytest.raises(PermeshError, match="is encrypted"):
            Wallet.load(home.keys / f"{name}.json", None)


@pytest.mark.parametrize(
    "content",
    [b"", b"nothing", b"[]", b"{}", b'{"format": "permesh-plain-1"}', b'{"crypto": 1}', b"\xff"],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_no_keystore_is_told_so_and_makes_nothing(
    home: Home, permesh, given, content: bytes
) -> None:
    wrong = home.root / "wrong.json"
    wrong.write_bytes(content)
    arguments = ("init", "--name", "birch", "--owner-wallet", str(wrong))
    for more in ([], ["--passphrase-fd", given("open sesame\n")]):
        line = failed(permesh(*arguments, *more))
        assert "wrong.json" in line
        assert "is damaged" in line or ("is encrypted" in line and not more)
        assert not home.keys.exists()


def test_a_keystore_that_is_not_there_is_wrong_usage(home: Home, permesh) -> None:
    for file in (home.root / "missing.json", home.root):
        assert permesh("init", "--name", "birch", "--owner-wallet", str(file)).exit_code == 2
    assert not home.keys.exists()


def test_an_identity_that_is_there_keeps_its_owner(elsewhere, permesh, kept: Path) -> None:
    said(permesh("init", "--name", "birch"))
    before = card(permesh)
    line = failed(permesh("init", "--name", "birch", "--owner-wallet", str(kept)))
    assert "holds an identity already" in line
    assert card(permesh) == before
    assert before["owner"] != card(elsewhere("old"))["owner"]


# -- arguments -------------------------------------------------------------------------------------


def founded(permesh) -> Genesis:
    said(permesh("init", "--name", "atlas"))
    said(permesh("mesh", "create", "orchard", "--person", "atlas@example.org"))
    return read_genesis(json.loads(said(permesh("mesh", "genesis"))))


@pytest.mark.parametrize("command", [REVOKED, REPAIRED], ids=" ".join)
def test_an_agents_address_has_forty_digits(permesh, command: list[str]) -> None:
    founded(permesh)
    for wrong in ("0x" + "ab" * 19, "ab" * 21, "0xzz", "AGT-0001", "", "0x", "ä" * 40, "\x1b[2J"):
        line = failed(permesh(*command, "--agent", wrong))
        assert "agent's address. Write it with 40 hexadecimal digits." in line
        assert "\x1b" not in line


def test_what_is_no_address_is_said_in_english(permesh) -> None:
    founded(permesh)
    assert "is not an agent's address" in failed(permesh(*REVOKED, "--agent", "0x77"))


def test_a_record_has_sixty_four_digits_and_a_place(permesh) -> None:
    founded(permesh)
    for wrong in ("7f" * 31, "7f" * 33, "0x", "", "zz" * 32, RECORD[:-1]):
        line = failed(permesh("owner", "repair", "7", wrong))
        assert "is not a record id. Write it with 64 hexadecimal digits." in line
    for seq in ("x", "", "1.5", "-1"):
        assert permesh("owner", "repair", "--", seq, RECORD).exit_code == 2
    assert "out of range" in failed(permesh("owner", "repair", str(2**63), RECORD))
    for missing in (["owner"], ["owner", "repair"], ["owner", "repair", "7"]):
        assert permesh(*missing).exit_code == 2


@pytest.mark.parametrize("command", [REVOKED, REPAIRED], ids=" ".join)
def test_what_lacks_is_said(permesh, elsewhere, kept: Path, command: list[str]) -> None:
    nobody = elsewhere("nobody")
    assert "There is no keystore" in failed(nobody(*command))
    wallet = ("--wallet", str(kept))
    line = failed(nobody(*command, *wallet))
    assert "permesh init --name NAME" in line  # or --agent, of whom it is
    line = failed(nobody(*command, *wallet, "--agent", OLD))
    assert "Nothing says which mesh this is about." in line
    assert "--invite LINE" in line
    assert "There is no keystore" in failed(permesh(*command, "--wallet", str(kept) + ".not"))
    said(permesh("init", "--name", "atlas"))
    assert "Nothing says which mesh" in failed(permesh(*command))
    line = failed(permesh(*command, "--agent", OLD, "--invite", "permesh1:AAAA"))
    assert "The invite is incomplete or mistyped." in line
    assert "This is not an invite." in failed(permesh(*command, "--invite", ""))


@pytest.mark.parametrize("command", [REVOKED, REPAIRED], ids=" ".join)
def test_without_a_daemon_it_is_said_how_to_start_one(permesh, command: list[str]) -> None:
    founded(permesh)
    assert failed(permesh(*command)) == (
        "permesh: No daemon is running on this home. Start one with: permesh daemon\n"
    )


# -- told to the home's own daemon -----------------------------------------------------------------


@pytest.fixture
def beside(home: Home, permesh):
    """A home in a mesh, and the daemon in memory on it."""
    genesis = founded(permesh)
    with running(home) as daemon:
        yield SimpleNamespace(
            genesis=genesis,
            node=daemon.node,
            owner=Wallet.load(home.keys / "owner.json", None),
            agent=Wallet.load(home.keys / "agent.json", None),
        )


def heard(beside) -> OwnerStatement:
    """The one statement that arrived, which its bytes and signatures bear out."""
    [statement] = beside.node.owners_say
    statement.verify(beside.genesis.mesh_id)
    return statement


def test_a_revocation_is_told_of_ones_own_agent(permesh, beside) -> None:
    before = offline._now_ms()
    words = said(permesh(*REVOKED))
    assert words == f"atlas tells orchard: revoke 0x{beside.agent.address.hex()}\n"
    statement = heard(beside)
    assert (statement.act, statement.seq) == (REVOKE, 0)
    assert statement.owner == beside.owner.address
    assert statement.agent == beside.agent.address
    assert before <= statement.said_ms <= offline._now_ms()


def test_nothing_is_revoked_unless_it_is_meant(permesh, beside) -> None:
    line = failed(permesh("owner", "revoke"))
    assert f"0x{beside.agent.address.hex()} from then on" in line
    assert line.endswith("Say so with --yes.\n")
    assert beside.node.owners_say == []


def test_a_repair_names_the_place_and_the_record(permesh, beside) -> None:
    shown = json.loads(said(permesh(*REPAIRED, "--json")))
    agent = "0x" + beside.agent.address.hex()
    assert shown == {"act": "repair", "agent": agent, "told": "atlas"}
    statement = heard(beside)
    assert (statement.act, statement.seq, statement.record.hex()) == (REPAIR, 7, RECORD)
    assert (statement.owner, statement.agent) == (beside.owner.address, beside.agent.address)


@pytest.mark.parametrize("spelling", [OLD, OLD[2:], OLD.upper().replace("0X", "0x")])
def test_another_agent_is_named_by_its_address(permesh, beside, spelling: str) -> None:
    assert said(permesh(*REVOKED, "--agent", spelling)).endswith(f": revoke {OLD}\n")
    assert heard(beside).agent.hex() == OLD[2:]


def test_another_wallet_signs_if_it_is_given(permesh, beside, kept: Path) -> None:
    said(permesh(*REVOKED, "--agent", OLD, "--wallet", str(kept)))
    assert heard(beside).owner == Wallet.load(kept, None).address != beside.owner.address


def test_a_wallet_with_a_passphrase_signs_when_it_is_opened(
    permesh, beside, given, locked: tuple[Path, Wallet]
) -> None:
    file, owner = locked
    arguments = (*REVOKED, "--agent", OLD, "--wallet", str(file))
    assert "--passphrase-fd" in failed(permesh(*arguments))
    wrong = permesh(*arguments, "--passphrase-fd", given("open barley"))
    assert "does not open the keystore" in failed(wrong)
    assert beside.node.owners_say == []
    said(permesh(*arguments, "--passphrase-fd", given("open sesame")))
    assert heard(beside).owner == owner.address


def test_what_the_daemon_has_against_it_is_said(
    permesh, beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: str) -> None:
        raise PermeshError("owner.not_owner", "It is not yours.", "Take the other wallet.")

    monkeypatch.setattr(beside.node, "tell_owner", refuse)
    assert failed(permesh(*REVOKED)) == "permesh: It is not yours. Take the other wallet.\n"


# -- told to a member at the invite's addresses ----------------------------------------------------


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Invite, OwnerStatement]]:
    """What would have been brought to a member, in the place of a swarm."""
    brought: list[tuple[Invite, OwnerStatement]] = []

    def bring(invite: Invite, statement: OwnerStatement) -> str:
        brought.append((invite, statement))
        return "ben, cat"

    monkeypatch.setattr(ownership, "bring", bring)
    return brought


@pytest.fixture
def line(elsewhere) -> str:
    """An invite of a mesh."""
    return Invite(founded(elsewhere("other")), ("/ip4/192.0.2.1/tcp/9470/p2p/12D3KooW",)).line()


@pytest.mark.parametrize(
    ("command", "act"), [(REVOKED, REVOKE), (REPAIRED, REPAIR)], ids=[REVOKE, REPAIR]
)
def test_any_machine_with_the_wallet_and_an_invite_will_do(
    home: Home, elsewhere, kept: Path, line: str, brought, command, act
) -> None:
    arguments = (*command, "--wallet", str(kept), "--agent", OLD, "--invite", line)
    bare = elsewhere("bare")
    assert said(bare(*arguments)) == f"ben, cat tells orchard: {act} {OLD}\n"
    assert json.loads(said(bare(*arguments, "--json"))) == {
        "act": act, "agent": OLD, "told": "ben, cat",
    }  # fmt: skip
    assert not (home.root / "bare").exists()
    for invite, statement in brought:
        assert invite == Invite.parse(line)
        assert OwnerStatement.decode(statement.encode()) == statement
        statement.verify(invite.genesis.mesh_id)
        assert (statement.act, statement.agent.hex()) == (act, OLD[2:])


def test_with_an_invite_the_homes_own_daemon_is_not_told(
    permesh, beside, line: str, brought
) -> None:
    said(permesh(*REVOKED, "--invite", line))
    assert beside.node.owners_say == []
    [(_, statement)] = brought
    assert statement.mesh == Invite.parse(line).genesis.mesh_id != beside.genesis.mesh_id
    assert statement.agent == beside.agent.address


# -- moving ----------------------------------------------------------------------------------------


@pytest.fixture
def fresh(elsewhere, kept: Path) -> Callable[..., Result]:
    """The home that the ID is to be moved to."""
    permesh = elsewhere("fresh")
    said(permesh("init", "--name", "atlas", "--owner-wallet", str(kept)))
    return permesh


def test_an_id_is_moved_to_the_key_of_this_home(
    home: Home, fresh, kept: Path, line: str, brought
) -> None:
    result = fresh("owner", "move", "--agent", OLD, "--invite", line)
    assert said(result) == f"ben, cat tells orchard: move {OLD}\n"
    assert "Next: permesh daemon, here" in result.stderr
    [(invite, statement)] = brought
    statement.verify(invite.genesis.mesh_id)
    assert (statement.act, statement.agent.hex()) == (MOVE, OLD[2:])
    assert statement.owner == Wallet.load(kept, None).address
    assert "0x" + statement.new_agent.hex() == card(fresh)["agent"]
    store = Store(Home(home.root / "fresh").database, read_only=True)
    genesis, enrolment = read_mesh(store)
    store.close()
    assert genesis == invite.genesis
    assert (enrolment.agent, enrolment.owner) == (statement.new_agent, statement.owner)
    assert card(fresh)["mesh"] == "orchard"
    again = failed(fresh("owner", "move", "--agent", OLD, "--invite", line))
    assert "belongs to a mesh already" in again
    assert len(brought) == 1


def test_a_move_in_json_is_one_object(fresh, line: str, brought) -> None:
    shown = json.loads(said(fresh("owner", "move", "--agent", OLD, "--invite", line, "--json")))
    assert shown == {"act": "move", "agent": OLD, "told": "ben, cat"}
    assert len(brought) == 1


@pytest.mark.parametrize("given", [[], ["--agent", OLD], ["--invite", "LINE"]], ids=" ".join)
def test_a_move_names_the_old_key_and_the_mesh(fresh, brought, given: list[str]) -> None:
    told = failed(fresh("owner", "move", *given))
    assert "permesh owner move --agent 0xOLD --invite LINE" in told
    assert brought == []


def nothing_moved(permesh, brought, *arguments: str) -> str:
    told = failed(permesh("owner", "move", *arguments))
    assert brought == []
    return told


def test_a_move_needs_a_new_home_of_that_owner(
    home: Home, elsewhere, permesh, kept: Path, line: str, brought
) -> None:
    where = ("--agent", OLD, "--invite", line)
    assert "permesh init --name NAME" in nothing_moved(elsewhere("nobody"), brought, *where)
    said(permesh("init", "--name", "birch"))
    told = nothing_moved(permesh, brought, *where, "--wallet", str(kept))
    assert "another owner than the wallet" in told
    assert "--owner-wallet FILE" in told
    assert not home.database.exists()
    other = elsewhere("other")  # founded the mesh of the line
    assert "belongs to a mesh already" in nothing_moved(other, brought, *where)


def test_a_move_of_what_is_no_key_moves_nothing(home: Home, fresh, line: str, brought) -> None:
    told = nothing_moved(fresh, brought, "--agent", "AGT-0004", "--invite", line)
    assert "40 hexadecimal digits" in told
    told = nothing_moved(fresh, brought, "--agent", OLD, "--invite", line[:-5])
    assert "incomplete or mistyped" in told
    assert not Home(home.root / "fresh").database.exists()


def test_a_move_that_reaches_nobody_leaves_the_home_as_it_was(
    home: Home, fresh, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bring(*_: object) -> str:
        raise PermeshError("network.unreachable", "Nobody is there.", "Try again.")

    monkeypatch.setattr(ownership, "bring", bring)
    result = fresh("owner", "move", "--agent", OLD, "--invite", line)
    assert "permesh: Nobody is there. Try again." in result.stderr
    assert (result.exit_code, result.stdout) == (1, "")
    assert card(fresh)["mesh"] == ""
    assert not Home(home.root / "fresh").database.exists()


def test_one_passphrase_opens_both_wallets_of_a_move(
    elsewhere, given, line: str, locked: tuple[Path, Wallet], brought
) -> None:
    file, owner = locked
    new = elsewhere("new")
    made = ("init", "--name", "atlas", "--owner-wallet", str(file))
    said(new(*made, "--passphrase-fd", given("open sesame")))
    moved = ("owner", "move", "--agent", OLD, "--invite", line)
    assert "--passphrase-fd" in failed(new(*moved))
    said(new(*moved, "--passphrase-fd", given("open sesame")))
    [(_, statement)] = brought
    assert statement.owner == owner.address


# -- a human that a soul stands for ----------------------------------------------------------------


def test_a_soul_is_read_from_an_endpoint_that_the_settings_name(
    home: Home, permesh, line: str
) -> None:
    said(permesh("init", "--name", "atlas"))
    told = failed(permesh("mesh", "join", line, "--soul", "ann-soul"))
    assert "No endpoint of Base is configured" in told
    assert 'Set one in config.toml: [identity] base_rpc = "https://…"' in told
    assert not home.database.exists()
    said(permesh("mesh", "join", line, "--person", "ann@example.org"))
