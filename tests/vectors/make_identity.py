"""Prints identity.json: what is signed and hashed, as this release makes it.

Run it as ``python -m tests.vectors.make_identity``. Nothing here is computed a second time: that
is what the tests of the vectors do.
"""

from __future__ import annotations

import json
from typing import Any

from eth_utils import keccak

from permesh.identity.checkpoint import Checkpoint
from permesh.identity.entry import Entry, RegistrarChange, Release, Resolution
from permesh.identity.merkle import Tree
from permesh.identity.owner import OwnerStatement
from permesh.identity.person import person_hash, vouched_nullifier
from permesh.identity.wallet import TypedMessage
from tests.identity.people import START_MS, Person, genesis, seed, wallet

ABOUT = (
    "What is signed (EIP-712: the type, the values, the digest) and what is hashed; byte strings "
    "in hex. Signatures are deterministic (RFC 6979), low s, v 27 or 28. Keys are SHA-256 of the "
    "names. Made by: python -m tests.vectors.make_identity"
)
PERSONS = [
    ("cleo@example.org", "cleo@example.org"),
    ("  Cleo@Example.ORG ", "cleo@example.org"),
    ("\uff23\uff2c\uff25\uff2f@example.org", "cleo@example.org"),  # full width
    ("Stra\u00dfe", "strasse"),
    ("Jose\u0301", "jos\u00e9"),
]
# The Certificate Transparency reference tests' own, for trees of 1 to 8 leaves.
RFC_6962 = {
    "leaves": [
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ],
    "roots": [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ],
}  # fmt: skip

ANN, BEN, CLEO = map(Person, ("ann", "ben", "cleo"))
MESH = genesis().mesh_id


def struct(message: TypedMessage, encoded: bytes, signatures: dict[str, bytes]) -> dict[str, Any]:
    """``signatures`` by the names of the wallets."""
    signable = message.signable()
    members = ",".join(f"{kind} {name}" for kind, name, _ in message.fields)
    return {
        "type": f"{message.primary}({members})",
        "values": {
            name: value.hex() if isinstance(value, bytes) else value
            for _, name, value in message.fields
        },
        "digest": keccak(b"\x19" + signable.version + signable.header + signable.body).hex(),
        "signatures": {who: signature.hex() for who, signature in signatures.items()},
        "encoded": encoded.hex(),
    }


def entries() -> dict[str, Entry]:
    """One of each kind, approved by ann."""
    agent, new = CLEO.address, wallet("cleo new").address
    moved = OwnerStatement.move(MESH, CLEO.owner, agent, wallet("cleo new"), START_MS)
    decided = {
        "admission": Entry.of(CLEO.enrols(evidence=b"met in person")),
        "registrars": Entry.of(RegistrarChange(agent, BEN.address, START_MS)),
        "suspension": Entry.suspend(agent, "Away until spring.", START_MS),
        "reinstatement": Entry.reinstate(new, "", START_MS),
        "release": Entry.of(Release("0.2.0", seed("runtime"), True, START_MS)),
        "resolution": Entry.of(Resolution(3, seed("base"), seed("root"))),
    }
    return {
        "founder": Entry.founder(genesis().registrars[0]),
        **{kind: ANN.approves(entry, START_MS + 1) for kind, entry in decided.items()},
        "owner": Entry.of(moved),
    }


def structs() -> dict[str, Any]:
    enrolment, credential = CLEO.enrols(evidence=b"met in person"), CLEO.credential()
    agent = CLEO.address
    revoke = OwnerStatement.revoke(MESH, CLEO.owner, agent, START_MS)
    move = OwnerStatement.move(MESH, CLEO.owner, agent, wallet("cleo new"), START_MS)
    repair = OwnerStatement.repair(MESH, CLEO.owner, agent, 7, seed("record"), START_MS)
    admission = entries()["admission"]
    (approval,) = admission.approvals
    vote = ANN.votes(Checkpoint(MESH, 2, seed("base"), 5, seed("root"), 3))
    return {
        "Enrolment": struct(
            enrolment.message(), enrolment.encode(),
            {"cleo owner": enrolment.owner_signature, "cleo agent": enrolment.agent_signature},
        ),
        "Credential": struct(
            credential.message(), credential.encode(), {"cleo agent": credential.signature}
        ),
        "OwnerStatement.revoke": struct(
            revoke.message(), revoke.encode(), {"cleo owner": revoke.owner_signature}
        ),
        "OwnerStatement.move": struct(
            move.message(), move.encode(),
            {"cleo owner": move.owner_signature, "cleo new": move.new_agent_signature},
        ),
        "OwnerStatement.repair": struct(
            repair.message(), repair.encode(), {"cleo owner": repair.owner_signature}
        ),
        "Approval": struct(
            approval.message(MESH, admission), admission.encode(),
            {"ann agent": approval.signature},
        ),
        "Checkpoint": struct(
            vote.checkpoint.message(), vote.encode(), {"ann agent": vote.signature}
        ),
    }  # fmt: skip


def log() -> dict[str, Any]:
    """Trees of 1 to 9 leaves, and every leaf's path in the largest: the leaf's hash first."""
    leaves = [(seed(f"leaf {number}") * 2)[: number * 7 - 7] for number in range(1, 10)]
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    paths = [tree.path(number, tree.size) for number in range(1, tree.size + 1)]
    return {
        "leaves": [leaf.hex() for leaf in leaves],
        "roots": [tree.root(size).hex() for size in range(1, tree.size + 1)],
        "paths": [
            {"rule": path.rule.hex(), "hashes": [one.hex() for one in path.hashes]}
            for path in paths
        ],
        "rfc6962": RFC_6962,
    }


def vectors() -> dict[str, Any]:
    mesh = genesis()
    return {
        "about": ABOUT,
        "genesis": {
            "name": mesh.name,
            "created_ms": mesh.created_ms,
            "salt": mesh.salt.hex(),
            "registrars": [
                [one.owner.hex(), one.agent.hex(), one.name, one.person.hex()]
                for one in mesh.registrars
            ],
            "threshold": mesh.threshold,
            "encoded": mesh.encode().hex(),
            "mesh_id": mesh.mesh_id.hex(),
            "scope": mesh.scope.hex(),
        },
        "persons": [
            {
                "text": text,
                "plain": plain,
                "hash": person_hash(text).hex(),
                "nullifier": vouched_nullifier(mesh.scope, person_hash(text)).hex(),
            }
            for text, plain in PERSONS
        ],
        "structs": structs(),
        "entries": {
            kind: {
                "data": entry.data.hex(),
                "digest": entry.digest.hex(),
                "encoded": entry.encode().hex(),
            }
            for kind, entry in entries().items()
        },
        "log": log(),
    }


def text() -> str:
    return json.dumps(vectors(), indent=2) + "\n"


if __name__ == "__main__":
    print(text(), end="")
