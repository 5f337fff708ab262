"""The keys that a home holds besides its wallets.

Owns the session key (Ed25519, one an epoch), the libp2p identity's seed (one for life) and the
names of key files. Must never know what is signed.
"""

from __future__ import annotations

from pathlib import Path

import base58
from nacl.signing import SigningKey

from permesh.config import Home
from permesh.errors import PermeshError

from .files import beside_prefix, loose_permissions, write_secret

SEED_BYTES = 32
# Old session keys sign nothing any more; the last two are enough for a renewal that crashed.
KEPT_SESSIONS = 2


class SessionKey:
    """Signs every record of one epoch; ``seed`` is 32 random bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public = bytes(self._key.verify_key)

    @classmethod
    def generate(cls, seed: bytes) -> SessionKey:
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message).signature)


class KeyFiles:
    """The `keys/` directory of a home."""

    def __init__(self, home: Home) -> None:
        self._directory = home.keys

    @property
    def owner(self) -> Path:
        return self._directory / "owner.json"

    @property
    def agent(self) -> Path:
        return self._directory / "agent.json"

    @property
    def peer(self) -> Path:
        return self._directory / "peer.key"

    def session(self, epoch: int) -> Path:
        return self._directory / f"session-{epoch}.key"

    def exist(self) -> bool:
        return self.agent.exists()

    def load_peer_seed(self) -> bytes:
        """The 32-byte seed of the libp2p identity; stable, so that a peer id outlives epochs."""
        return _read_seed(self.peer)

    def load_session(self, epoch: int) -> SessionKey | None:
        """None if this home has no key of that epoch."""
        path = self.session(epoch)
        return SessionKey(_read_seed(path)) if path.exists() else None

    def save_session(self, epoch: int, seed: bytes) -> SessionKey:
        """Keep a new epoch's key before anything is signed with it; forgets older ones.

        A key of that epoch that is there already is returned instead: a renewal that crashed is
        taken up where it stopped.
        """
        known = self.load_session(epoch)
        if known is None:
            known = SessionKey(seed)
            write_secret(self.session(epoch), seed)
        for path in self._directory.glob("session-*.key"):
            number = path.stem.removeprefix("session-")
            if number.isdecimal() and int(number) <= epoch - KEPT_SESSIONS:
                path.unlink(missing_ok=True)
        for path in self._directory.glob(beside_prefix(Path("session-*.key")) + "*"):
            path.unlink(missing_ok=True)  # of a renewal that crashed half-way
        return known


def check_permissions(home: Home) -> list[str]:
    """What of the keys others may read, one line each; empty when all is well."""
    return loose_permissions(home.keys) if home.keys.is_dir() else []


def _read_seed(path: Path) -> bytes:
    try:
        seed = path.read_bytes()
    except OSError as error:
        raise PermeshError(
            "keys.missing",
            f"The key {path} cannot be read: {error.strerror}.",
            "Put back a copy of it, or run: permesh init --name NAME in a new home.",
        ) from error
    if len(seed) != SEED_BYTES:
        raise PermeshError("keys.damaged", f"The key {path} is damaged.", "Put back a copy of it.")
    return seed


def peer_id_of(seed: bytes) -> str:
    """The libp2p peer id of an Ed25519 seed: base58 of the identity multihash of its public key.

    Source: libp2p's peer id specification, section "Ed25519"; checked in tests against libp2p.
    """
    public = bytes(SigningKey(seed).verify_key)
    return base58.b58encode(b"\x00\x24\x08\x01\x12\x20" + public).decode()
