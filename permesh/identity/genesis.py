"""What founds a mesh, and the line that invites to it.

Owns the genesis, whose hash is the mesh's id, and the invite, which carries it with addresses to
dial. Must never know who was admitted later.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_UINT, pack, unpack

VERSION = 2
ID_TAG = b"permesh/genesis/2\x00"
SCOPE_TAG = b"permesh/scope/1\x00"
INVITE_PREFIX = "permesh1:"
MAX_REGISTRARS = 32
MAX_GENESIS_BYTES = 4096
MAX_BOOTSTRAP = 16
MAX_ADDRESS_BYTES = 256
MAX_INVITE_BYTES = 12_288
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def check_name(name: Any, what: str = "name") -> str:
    """1 to 32 of [a-z0-9-], no dash at either end; raises ``Refused("identity.name")``."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(
            "identity.name",
            f"The {what} {name!r:.60} is not valid.",
            "Use 1 to 32 of a-z, 0-9 and '-', with no dash at either end.",
        )
    return name


def require(condition: bool, field: str) -> None:
    if not condition:
        raise Refused(
            "identity.field",
            f"The {field} is not valid.",
            "It was altered, or made by a release with other rules: have it made again.",
        )


def is_uint(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_UINT


def fields_of(data: bytes, count: int, limit: int, what: str) -> list[Any]:
    """Decode a versioned canonical array and strip its version; raises ``Refused``."""
    require(isinstance(data, bytes), what)
    fields: list[Any] = unpack(data, limit=limit)
    require(isinstance(fields, list) and len(fields) == count + 1, f"shape of the {what}")
    if fields[0] != VERSION or isinstance(fields[0], bool):
        raise Refused(
            "identity.version",
            f"The {what} has format version {fields[0]!r:.20}, and this release knows {VERSION}.",
            "Upgrade permesh.",
        )
    return fields[1:]


def check_bytes(value: Any, length: int, field: str) -> bytes:
    require(isinstance(value, bytes) and len(value) == length, field)
    return bytes(value)


@dataclass(frozen=True, slots=True)
class Registrar:
    """A founding member who may admit others.

    ``owner`` and ``agent`` are 20-byte addresses; ``person`` is the person's nullifier (32 bytes).
    """

    owner: bytes
    agent: bytes
    name: str
    person: bytes


@dataclass(frozen=True, slots=True)
class Genesis:
    """A mesh's unchangeable beginning.

    ``registrars[i]`` is agent number i + 1; ``threshold`` of the registrars decide.
    """

    name: str
    created_ms: int
    salt: bytes
    registrars: tuple[Registrar, ...]
    threshold: int = 1

    @property
    def mesh_id(self) -> bytes:
        return hashlib.sha256(ID_TAG + self.encode()).digest()

    @property
    def scope(self) -> bytes:
        """What nullifiers are made for; the genesis holds some, so it cannot be its own hash."""
        return hashlib.sha256(SCOPE_TAG + self.salt).digest()

    def encode(self) -> bytes:
        named = [[one.owner, one.agent, one.name, one.person] for one in self.registrars]
        return pack([VERSION, self.name, self.created_ms, self.salt, named, self.threshold])

    @classmethod
    def decode(cls, data: bytes) -> Genesis:
        name, created_ms, salt, named, threshold = fields_of(data, 5, MAX_GENESIS_BYTES, "genesis")
        check_name(name, "mesh name")
        require(is_uint(created_ms), "founding date")
        check_bytes(salt, 16, "salt")
        require(isinstance(named, list) and 0 < len(named) <= MAX_REGISTRARS, "registrars")
        registrars = []
        for one in named:
            require(isinstance(one, list) and len(one) == 4, "registrar")
            owner, agent, title, person = one
            registrars.append(
                Registrar(
                    check_bytes(owner, 20, "owner"),
                    check_bytes(agent, 20, "agent"),
                    check_name(title, "registrar's name"),
                    check_bytes(person, 32, "registrar's person"),
                )
            )
        keys = {key for one in registrars for key in (one.owner, one.agent)}
        require(len(keys) == 2 * len(registrars), "list of registrars (a key stands in it twice)")
        persons = {one.person for one in registrars}
        require(len(persons) == len(registrars), "list of registrars (a person is in it twice)")
        require(is_uint(threshold) and 0 < threshold <= len(registrars), "threshold")
        return cls(name, created_ms, salt, tuple(registrars), threshold)


@dataclass(frozen=True, slots=True)
class Invite:
    """A genesis and the multiaddrs of members to dial first."""

    genesis: Genesis
    bootstrap: tuple[str, ...]

    def line(self) -> str:
        content = pack([VERSION, self.genesis.encode(), list(self.bootstrap)])
        check = hashlib.sha256(content).digest()[:4]
        return INVITE_PREFIX + base64.urlsafe_b64encode(content + check).decode().rstrip("=")

    @classmethod
    def parse(cls, line: str) -> Invite:
        """Raises ``Refused``; a line cut short or mistyped is told by its checksum."""
        line = line.strip()
        require(len(line) <= MAX_INVITE_BYTES, "invite's length")
        if not line.startswith(INVITE_PREFIX):
            raise Refused(
                "invite.not_one",
                "This is not an invite.",
                f"An invite is one line that begins with '{INVITE_PREFIX}'; a member prints it "
                "with: permesh mesh invite",
            )
        text = line.removeprefix(INVITE_PREFIX)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise _mistyped() from error
        content, check = raw[:-4], raw[-4:]
        if hashlib.sha256(content).digest()[:4] != check:
            raise _mistyped()
        genesis, addresses = fields_of(content, 2, MAX_INVITE_BYTES, "invite")
        require(isinstance(genesis, bytes), "genesis")
        require(isinstance(addresses, list) and len(addresses) <= MAX_BOOTSTRAP, "addresses")
        for address in addresses:
            require(isinstance(address, str) and address.startswith("/"), "address")
            # It is shown and kept, so nothing that a terminal would obey.
            require(address.isascii() and address.isprintable(), "address")
            require(len(address) <= MAX_ADDRESS_BYTES, "address")
        invite = cls(Genesis.decode(genesis), tuple(addresses))
        # Base64 leaves unused bits at the end: one invite has one spelling.
        if invite.line() != line:
            raise _mistyped()
        return invite


def _mistyped() -> Refused:
    return Refused(
        "invite.mistyped",
        "The invite is incomplete or mistyped.",
        "Copy the whole line again, from 'permesh1:' to its end.",
    )
