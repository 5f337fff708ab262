"""A third question of the side that opened the session: some records by their ids alone."""

from __future__ import annotations

from collections.abc import Sequence

from permesh.errors import Refused
from permesh.p2p.sync_messages import Records, decode, encode

from .actions import Action, Finished, Send, TakeIn
from .exchange import Fetch


class Picker:
    """Asks, once an `Asker` is done, for some records by their ids, which the other may not have:
    what is older than it holds of a room, and yet is to stay."""

    def __init__(self) -> None:
        self._fetch = Fetch()

    def start(self, ids: Sequence[bytes]) -> list[Action]:
        self._fetch.queue.extend(ids)
        return self._go_on()

    def received(self, data: bytes) -> list[Action]:
        """A message of the peer."""
        try:
            message = decode(data)
        except Refused as error:
            return [Finished(error.code)]
        if not isinstance(message, Records):
            return [Finished("sync.out_of_turn")]
        fault = self._fetch.take(message)
        if fault:
            return [Finished(fault)]
        taken: list[Action] = [TakeIn(message.wires)] if message.wires else []
        return taken if message.left else taken + self._go_on()

    def _go_on(self) -> list[Action]:
        if not self._fetch.queue:
            return [Finished()]
        return [Send(encode(self._fetch.next_want()))]
