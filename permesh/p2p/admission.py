"""The conversation that turns a connection into a member's connection.

Owns its messages and their order: both sides say who they are (`hello`), both check the other,
both say what they found (`verdict`), all in one stream. A conversation may be held again on the
same connection, when a credential was renewed. Must never know what a hello proves (the `Gate`
does, which stands in a room above) nor what follows from a verdict (the swarm does).

    here → [1, hello, addresses]                     there → [1, hello, addresses]
    here → [status, code, message, remedy, extra]    there → [status, code, …]
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from permesh.errors import Refused
from permesh.records import pack, unpack

from .wire import Framed

PROTOCOL = "/permesh/admission/1"
VERSION = 1

# A credential and a proof that the log holds its agent: 1.5 KiB in a young mesh, and more for every
# change of those who decide.
MAX_HELLO = 69 * 1024
MAX_EXTRA = 65 * 1024
MAX_TEXT = 512
MAX_CODE = 64
MAX_ADDRESSES = 8
MAX_ADDRESS = 256
MESSAGE_LIMIT = MAX_HELLO + MAX_ADDRESSES * (MAX_ADDRESS + 3) + 64

# From the connection to both verdicts. A peer that is not admitted by then is dropped.
ADMISSION_S = 5.0

Status = Literal["admitted", "pending", "refused"]
_STATUSES = ("admitted", "pending", "refused")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """What one side found of the other; all but the last two fields travel.

    ``extra`` is a proof that the other side lacks (its admission). ``verified`` is what the gate
    knows of the peer, handed to every handler of its streams; ``expires_ms`` (Unix ms, 0: never)
    is until when it holds.
    """

    status: Status
    code: str = ""
    message: str = ""
    remedy: str = ""
    extra: bytes = b""
    verified: object | None = None
    expires_ms: int = 0

    @property
    def admitted(self) -> bool:
        return self.status == "admitted"


class Gate(Protocol):
    """Who may come in. Its methods are called in the event loop and must be cheap.

    ``check`` and ``on_verdict`` may raise: the peer is then refused, or the verdict forgotten.
    """

    def hello(self) -> bytes:
        """What we show: 1 … ``MAX_HELLO`` bytes."""
        ...

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        """What we find of a peer whose libp2p identity is proven to be ``peer_id``."""
        ...

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        """What that peer found of us. ``verified`` is None, and nothing of it is proven."""
        ...


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Check:
    """Ask the gate, and give its verdict to `Conversation.found`."""

    hello: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """Both verdicts are out. ``addresses`` are where the peer says it can be dialled."""

    ours: GateVerdict
    theirs: GateVerdict
    addresses: tuple[str, ...]


Action = Send | Check | Ended


class Conversation:
    """One side of it, without I/O. Inputs are `begin`, `receive` and `found`, in that order; what
    they return is to be done in turn. Any message out of place or form raises ``Refused``."""

    def __init__(self) -> None:
        self._ours: GateVerdict | None = None
        self._theirs: GateVerdict | None = None
        self._addresses: tuple[str, ...] | None = None

    def begin(self, hello: bytes, addresses: tuple[str, ...]) -> list[Action]:
        return [Send(pack([VERSION, hello, list(addresses[:MAX_ADDRESSES])]))]

    def receive(self, data: bytes) -> list[Action]:
        if self._addresses is None:
            hello, self._addresses = _decode_hello(data)
            return [Check(hello)]
        if self._theirs is not None:
            raise Refused("admission.order", "The peer has given its verdict already.")
        self._theirs = decode_verdict(data)
        return self._end()

    def found(self, verdict: GateVerdict) -> list[Action]:
        self._ours = verdict
        return [Send(encode_verdict(verdict)), *self._end()]

    def _end(self) -> list[Action]:
        if self._ours is None or self._theirs is None or self._addresses is None:
            return []
        return [Ended(self._ours, self._theirs, self._addresses)]


async def converse(
    stream: Framed,
    hello: bytes,
    addresses: tuple[str, ...],
    check: Callable[[bytes], GateVerdict],
) -> Ended:
    """Hold the conversation over ``stream``; ``check`` is given the peer's hello.

    The caller sets the deadline. Raises ``PermeshError``, or ``Refused`` for a peer that does not
    keep to the protocol.
    """
    conversation = Conversation()
    actions = deque(conversation.begin(hello, addresses))
    while True:
        while actions:
            action = actions.popleft()
            if isinstance(action, Ended):
                return action
            if isinstance(action, Send):
                await stream.send(action.data)
            else:
                actions += conversation.found(check(action.hello))
        actions += conversation.receive(await stream.receive())


def ask(gate: Gate, peer_id: str, hello: bytes) -> GateVerdict:
    """The gate's verdict, whatever happens in it."""
    try:
        return gate.check(peer_id, hello)
    except Refused as refused:
        return GateVerdict("refused", refused.code, refused.message, refused.remedy)
    except Exception:
        logger.exception("The gate failed on the hello of %s.", peer_id)
        return GateVerdict("refused", "admission.failed", "The credential could not be checked.")


def encode_verdict(verdict: GateVerdict) -> bytes:
    return pack(
        [
            verdict.status,
            verdict.code[:MAX_CODE],
            verdict.message[:MAX_TEXT],
            verdict.remedy[:MAX_TEXT],
            verdict.extra,
        ]
    )


def decode_verdict(data: bytes) -> GateVerdict:
    fields = unpack(data, limit=MESSAGE_LIMIT)
    if isinstance(fields, list) and len(fields) == 5:
        status, code, message, remedy, extra = fields
        if (
            status in _STATUSES
            and _is_text(code, MAX_CODE)
            and _is_text(message, MAX_TEXT)
            and _is_text(remedy, MAX_TEXT)
            and isinstance(extra, bytes)
            and len(extra) <= MAX_EXTRA
        ):
            return GateVerdict(status, code, message, remedy, extra)
    raise Refused("admission.verdict", "The peer's verdict is not valid.")


def _decode_hello(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    fields = unpack(data, limit=MESSAGE_LIMIT)
    if isinstance(fields, list) and len(fields) == 3 and type(fields[0]) is int:
        version, hello, addresses = fields
        if version != VERSION:
            raise Refused(
                "admission.version",
                f"The peer speaks version {version} of the admission, and this release {VERSION}.",
                "Upgrade the older of the two.",
            )
        if isinstance(hello, bytes) and 0 < len(hello) <= MAX_HELLO and _are_addresses(addresses):
            return hello, tuple(addresses)
    raise Refused("admission.hello", "The peer's hello is not valid.")


def _are_addresses(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_ADDRESSES
        and all(_is_text(address, MAX_ADDRESS) for address in value)
    )


def _is_text(value: Any, limit: int) -> bool:
    return isinstance(value, str) and len(value) <= limit
