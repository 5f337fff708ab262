"""Messages wait in a bounded queue, and the oldest make room."""

from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from permesh.p2p.inbox import MAX_WAITING, Inbox


def test_messages_are_taken_in_order_and_the_oldest_make_room() -> None:
    taken: list[bytes] = []

    async def main() -> None:
        inbox = Inbox(lambda _, data: taken.append(data))
        sent = [b"%d" % index for index in range(MAX_WAITING + 3)]
        for data in sent:
            inbox.put("a", data)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.run)
            await wait_all_tasks_blocked()
            assert taken == sent[3:]
            assert inbox.dropped == 3
            inbox.put("a", b"later")
            await wait_all_tasks_blocked()
            assert taken[-1] == b"later"
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
