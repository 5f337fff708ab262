"""What a member does before, or without, a running daemon.

Owns `init`, `mesh create`, `mesh join` and the ID card of a home at rest; it holds the home's
lock while it writes. Must never open a connection.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import doctor as doctor_module
from . import schema
from .chitin import Chain, check_soul, claim_soul
from .config import Config, Home, load_config, render_config
from .errors import NotFound, PermeshError
from .identity.card import blank_card, fill_card
from .identity.credential import Credential
from .identity.enrolment import Enrolment
from .identity.export import (
    CONTRADICTION_TYPE,
    MAX_DOCUMENT_BYTES,
    Checked,
    check_contradiction,
    check_document,
    contradiction_document,
    credential_document,
    genesis_document,
    read_genesis,
    read_json,
)
from .identity.files import make_private_directory, write_secret
from .identity.founding import Founder, found
from .identity.genesis import Genesis, Invite, check_name
from .identity.keys import SEED_BYTES, KeyFiles, peer_id_of
from .identity.person import CHITIN, VOUCHED, person_hash, vouched_nullifier
from .identity.roster import Roster
from .identity.runtime import runtime_hash
from .identity.wallet import Wallet, is_encrypted, read_keystore
from .lock import lock_home
from .records import pack
from .remembered import (
    BOOTSTRAP_KEY,
    CREDENTIAL_KEY,
    ENROLMENT_KEY,
    FOUNDED_KEY,
    GENESIS_KEY,
    no_mesh,
    read_mesh,
)
from .store import Store
from .stored import Views

__all__ = [
    "create_identity",
    "create_mesh",
    "doctor",
    "founder_line",
    "identity_card",
    "join_mesh",
    "known_as",
    "soul_of",
]

doctor = doctor_module.examine


def create_identity(
    home: Home, name: str, passphrase: str | None = None, owner: Path | None = None
) -> None:
    """Make the owner's and the agent's wallets, the peer key and `config.toml`.

    ``owner`` is the keystore of an owner that there is; its passphrase is to be the same. Raises
    ``keys.exist`` rather than touch an identity that is there.
    """
    check_name(name)
    known = Wallet.load(owner, passphrase) if owner is not None else Wallet.create()
    home.check_socket_path()
    files = KeyFiles(home)
    if files.exist():
        raise PermeshError(
            "keys.exist",
            f"{home.root} holds an identity already.",
            "Show it with 'permesh id', or choose another home: permesh --home DIR COMMAND",
        )
    make_private_directory(home.root)
    make_private_directory(home.keys)
    with lock_home(home):
        # The agent's wallet comes last: it is what marks an identity as whole.
        for path in (files.owner, files.peer):
            path.unlink(missing_ok=True)  # left by an `init` that was interrupted
        known.save(files.owner, passphrase)
        write_secret(files.peer, os.urandom(SEED_BYTES))
        if not home.config.exists():
            write_secret(home.config, render_config(Config(name=name)).encode())
        Wallet.create().save(files.agent, passphrase)


def create_mesh(
    home: Home,
    name: str,
    person: str,
    founders: Sequence[str] = (),
    threshold: int | None = None,
    passphrase: str | None = None,
) -> Genesis:
    """Found a mesh whose first registrar is this agent; ``founders`` are the others' lines.

    ``threshold`` is how many of them decide, by default more than half.
    """
    owner, agent, config = _wallets(home, passphrase)
    now, salt = _now_ms(), os.urandom(16)
    people = [
        Founder(owner.address, agent.address, config.name, person_hash(person)),
        *map(Founder.parse, founders),
    ]
    genesis = found(check_name(name, "mesh name"), now, salt, people, threshold)
    _enter(home, genesis, owner, agent, (), known_as(person)(genesis), now, founded=True)
    return genesis


def join_mesh(home: Home, line: str, who: Evidence, passphrase: str | None = None) -> bool:
    """Enrol in the mesh of an invite; the daemon then asks to be let in.

    Returns whether it need not ask: the genesis names this agent one of the founders.
    """
    invite = Invite.parse(line)
    owner, agent, _ = _wallets(home, passphrase)
    _enter(home, invite.genesis, owner, agent, invite.bootstrap, who(invite.genesis), _now_ms())
    return any(one.agent == agent.address for one in invite.genesis.registrars)


@dataclass(frozen=True, slots=True)
class Person:
    """Who stands behind an enrolment, as its verifier is to find."""

    verifier: str
    nullifier: bytes
    evidence: bytes = b""


Evidence = Callable[[Genesis], Person]


def known_as(person: str) -> Evidence:
    """Known to the registrars by ``person``, whom they have met."""
    hashed = person_hash(person)
    return lambda genesis: Person(VOUCHED, vouched_nullifier(genesis.scope, hashed))


def soul_of(home: Home, soul: str) -> Evidence:
    """The owner holds ``soul`` of the Chitin registry: read from the endpoint in the settings."""
    rpc = load_config(home).identity.base_rpc
    if not rpc:
        raise PermeshError(
            "chitin.no_endpoint",
            "No endpoint of Base is configured to read the soul from.",
            'Set one in config.toml: [identity] base_rpc = "https://…"',
        )

    def read(genesis: Genesis) -> Person:
        with Chain(rpc) as chain:
            claim = claim_soul(chain, soul)
            check_soul(chain, claim, bytes.fromhex(_address(KeyFiles(home).owner)[2:]))
        return Person(CHITIN, claim.nullifier(genesis.scope), claim.encode())

    return read


def agent_wallet(home: Home, passphrase: str | None) -> Wallet:
    _require_identity(home)
    return Wallet.load(KeyFiles(home).agent, passphrase)


def check_passphrase(home: Home, passphrase: str) -> None:
    """Raises unless it opens the agent's keystore, and is needed for that."""
    _require_identity(home)
    if not is_encrypted(read_keystore(KeyFiles(home).agent)):
        raise PermeshError(
            "wallet.plain",
            "The wallets of this home have no passphrase.",
            "There is nothing to keep; the daemon starts without one.",
        )
    agent_wallet(home, passphrase)


def check_move(home: Home, owner: Wallet) -> None:
    """Raises unless the home is the owner's, and belongs to no mesh yet."""
    if _address(KeyFiles(home).owner) != "0x" + owner.address.hex():
        raise PermeshError(
            "owner.other_home",
            "This home has another owner than the wallet that you gave.",
            "Make a new home for the move: permesh init --name NAME --owner-wallet FILE",
        )
    if home.database.is_file():
        with closing(Store(home.database, read_only=True)) as store:
            if store.get_value(GENESIS_KEY) is not None:
                raise PermeshError(
                    "mesh.already",
                    "The agent of this home belongs to a mesh already.",
                    "Make a new home for the move: permesh init --name NAME --owner-wallet FILE",
                )


def move_in(home: Home, line: str, owner: Wallet, agent: Wallet) -> None:
    """Remember the mesh that the ID was moved in; the log says who this is, no enrolment does."""
    invite = Invite.parse(line)
    _enter(
        home, invite.genesis, owner, agent, invite.bootstrap, Person(VOUCHED, bytes(32)), _now_ms()
    )


def founder_line(home: Home, person: str) -> str:
    """What the one who founds a mesh needs of this home, to name it a registrar."""
    card = identity_card(home)
    if home.database.is_file():
        with closing(Store(home.database, read_only=True)) as store:
            _require_no_mesh(store)
    founder = Founder(
        bytes.fromhex(card.owner[2:]), bytes.fromhex(card.agent[2:]), card.name, person_hash(person)
    )
    return founder.line()


def _wallets(home: Home, passphrase: str | None) -> tuple[Wallet, Wallet, Config]:
    _require_identity(home)
    files = KeyFiles(home)
    return (
        Wallet.load(files.owner, passphrase),
        Wallet.load(files.agent, passphrase),
        load_config(home),
    )


def _enter(
    home: Home,
    genesis: Genesis,
    owner: Wallet,
    agent: Wallet,
    bootstrap: tuple[str, ...],
    who: Person,
    now_ms: int,
    *,
    founded: bool = False,
) -> None:
    enrolment = Enrolment.make(
        genesis.mesh_id, load_config(home).name, owner, agent,
        runtime_hash=runtime_hash(), verifier=who.verifier, person=who.nullifier,
        evidence=who.evidence, requested_ms=now_ms,
    )  # fmt: skip
    with lock_home(home), closing(Views(agent.address).open(home.database)) as store:
        known = store.get_value(GENESIS_KEY)
        if known != genesis.encode():
            _require_no_mesh(store)
        store.set_value(BOOTSTRAP_KEY, pack(list(bootstrap)))
        if known is None:  # a second invite to the same mesh only brings new addresses
            store.set_value(ENROLMENT_KEY, enrolment.encode())
            store.set_value(GENESIS_KEY, genesis.encode())
            if founded:
                store.set_value(FOUNDED_KEY, b"\x01")


def _require_no_mesh(store: Store) -> None:
    known = store.get_value(GENESIS_KEY)
    if known is not None:
        raise PermeshError(
            "mesh.already",
            f"This agent belongs to the mesh {Genesis.decode(known).name} already.",
            "One home is one agent in one mesh; choose another: permesh --home DIR COMMAND",
            http_status=409,
        )


def identity_card(home: Home) -> schema.Identity:
    """The Chitin ID card as the home tells it; needs no passphrase."""
    _require_identity(home)
    files = KeyFiles(home)
    card = blank_card(
        name=load_config(home).name,
        agent=_address(files.agent),
        owner=_address(files.owner),
        peer_id=peer_id_of(files.load_peer_seed()),
    )
    try:
        roster, credential = _remembered(home)
    except PermeshError as error:
        if error.code != "mesh.none":
            raise
        return card
    return fill_card(card, roster, bytes.fromhex(card.agent[2:]), credential)


def _remembered(home: Home) -> tuple[Roster, Credential | None]:
    """The roster that the home's records make, and its own credential; raises ``mesh.none``."""
    if not home.database.is_file():
        raise no_mesh()
    with closing(Store(home.database, read_only=True)) as store:
        genesis, _ = read_mesh(store)
        roster = Roster(genesis)
        for record in store.load_identity_records():
            roster.apply(record)
        credential = store.get_value(CREDENTIAL_KEY)
    return roster, Credential.decode(credential) if credential else None


def export_genesis(home: Home) -> dict[str, Any]:
    """As JSON for strangers, who check members' documents against it."""
    return genesis_document(_remembered(home)[0].genesis)


def export_credential(home: Home) -> dict[str, Any]:
    """This member's credential as JSON that a stranger checks offline."""
    roster, credential = _remembered(home)
    if credential is None:
        raise PermeshError(
            "credential.none",
            "This agent has no credential yet.",
            "Run its daemon once: permesh daemon",
        )
    return credential_document(roster, credential)


def export_contradiction(home: Home) -> dict[str, Any]:
    """The proof that the log contradicts itself; raises ``contradiction.none`` if it does not."""
    found = contradiction_document(_remembered(home)[0])
    if found is None:
        raise PermeshError(
            "contradiction.none", "The log does not contradict itself.", "There is nothing to show."
        )
    return found


def verify_document(path: Path, genesis: Path) -> Checked | tuple[Genesis, tuple[bytes, ...]]:
    """Raises ``Refused`` unless what is in ``path`` holds under ``genesis``, now.

    For a contradiction it gives the mesh and the witnesses that signed both ways.
    """
    root = read_genesis(read_json(_read(genesis)))
    document = read_json(_read(path))
    if isinstance(document, dict) and document.get("type") == CONTRADICTION_TYPE:
        return root, check_contradiction(document, root)
    return check_document(document, root, _now_ms())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise PermeshError(
            "export.unreadable",
            f"{path} cannot be read: {error.strerror}.",
            "Name the file that 'permesh id --export' printed.",
        ) from error


def _require_identity(home: Home) -> None:
    if not KeyFiles(home).exist():
        raise NotFound(
            "keys.none",
            f"There is no identity in {home.root}.",
            "Make one with: permesh init --name NAME",
        )


def _address(path: Path) -> str:
    content = read_keystore(path)
    address = str(content.get("address", "")).lower().removeprefix("0x")
    return f"0x{address}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
