"""What a home holds of its mesh: keys in files, and a few values in its store.

Owns their names and their reading. Must never decide what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import Home
from .errors import PermeshError
from .identity.enrolment import Enrolment
from .identity.genesis import Genesis
from .identity.keys import KeyFiles, peer_id_of
from .identity.wallet import Wallet
from .store import Store

# What a home remembers of its mesh, in the store's key-value table.
GENESIS_KEY = "mesh.genesis"
ENROLMENT_KEY = "mesh.enrolment"
BOOTSTRAP_KEY = "mesh.bootstrap"
PROOF_KEY = "mesh.proof"
CREDENTIAL_KEY = "mesh.credential"
FOUNDED_KEY = "mesh.founded"  # here, so that nothing can have been written before


@dataclass(frozen=True, slots=True)
class Secrets:
    """The unlocked keys that a running daemon needs: the agent's wallet renews credentials."""

    agent: Wallet
    peer_seed: bytes
    files: KeyFiles

    @classmethod
    def unlock(cls, home: Home, passphrase: str | None) -> Secrets:
        files = KeyFiles(home)
        return cls(Wallet.load(files.agent, passphrase), files.load_peer_seed(), files)

    @property
    def peer_id(self) -> str:
        return peer_id_of(self.peer_seed)


def knows_its_chain(store: Store, agent: bytes) -> bool:
    return store.head(agent) is not None or store.get_value(FOUNDED_KEY) is not None


def no_mesh() -> PermeshError:
    return PermeshError(
        "mesh.none",
        "This agent belongs to no mesh yet.",
        "Found one with 'permesh mesh create NAME', or join one with 'permesh mesh join LINE'.",
    )


def read_mesh(store: Store) -> tuple[Genesis, Enrolment]:
    """The mesh of this home, and this agent's enrolment in it; raises ``mesh.none``."""
    genesis, enrolment = store.get_value(GENESIS_KEY), store.get_value(ENROLMENT_KEY)
    if genesis is None or enrolment is None:
        raise no_mesh()
    return Genesis.decode(genesis), Enrolment.decode(enrolment)
