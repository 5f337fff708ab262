"""What computing needs to know of the mesh, as a shape that the daemon fills in.

Owns no state. The daemon builds it on the swarm, the roster and the session key; tests build it
on loopback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from permesh.p2p.wire import Framed


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the mesh as answers and errors name it; ``agent`` is 20 bytes."""

    agent: bytes
    number: int
    name: str

    @property
    def tag(self) -> str:
        return f"AGT-{self.number:04d}"

    @property
    def label(self) -> str:
        return f"{self.name} ({self.tag})"

    @property
    def agent_hex(self) -> str:
        return "0x" + self.agent.hex()


class Surroundings(Protocol):
    """All but `open_stream` answer at once, from memory."""

    @property
    def mesh_id(self) -> bytes: ...

    @property
    def peer_id(self) -> str:
        """Our own."""
        ...

    def me(self) -> Member: ...

    def epoch(self) -> int:
        """Of our present credential."""
        ...

    def sign(self, digest: bytes) -> bytes:
        """With our present session key."""
        ...

    def session_key(self, agent: bytes, epoch: int) -> bytes | None:
        """The key of that member's credential, while it is valid."""
        ...

    def member(self, agent: bytes) -> Member | None: ...

    def connected(self) -> Mapping[str, Member]:
        """Admitted peers with a live connection, by peer id."""
        ...

    def host_of(self, peer_id: str) -> str | None:
        """The IP address of our connection to a peer; None when it is relayed or gone."""
        ...

    async def open_stream(self, peer_id: str, protocol: str) -> Framed:
        """Raises ``PermeshError``."""
        ...

    def announce(self) -> None:
        """Our offer has changed, or is due again: send it to everyone soon."""
        ...

    def spans_changed(self) -> None:
        """The known spans have changed: tell whoever watches."""
        ...

    def fault(self, peer_id: str, code: str) -> None:
        """Count what a peer did wrong."""
        ...
