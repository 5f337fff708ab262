"""Events reach every listener in order, and a slow one is told that it lagged."""

from __future__ import annotations

import trio
import trio.testing

from permesh.events import Event, EventBus, Lagged, MembersChanged, StatusChanged


def numbered(number: int) -> Event:
    return MembersChanged((number.to_bytes(20, "big"),))


def test_each_listener_gets_each_event_in_order() -> None:
    async def main() -> None:
        bus = EventBus()
        async with bus.subscribe() as one, bus.subscribe() as other:
            for number in range(5):
                bus.publish(numbered(number))
            for events in (one, other):
                assert [await anext(events) for _ in range(5)] == [numbered(n) for n in range(5)]

    trio.run(main)


def test_a_waiting_listener_is_woken() -> None:
    async def main() -> None:
        bus = EventBus()
        got: list[Event] = []

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            async with bus.subscribe() as events:
                task_status.started()
                async for event in events:
                    got.append(event)
                    if len(got) == 2:
                        return

        async with trio.open_nursery() as nursery:
            await nursery.start(listen)
            await trio.testing.wait_all_tasks_blocked()
            bus.publish(StatusChanged())
            await trio.testing.wait_all_tasks_blocked()
            assert got == [StatusChanged()]
            bus.publish(numbered(1))
        assert got == [StatusChanged(), numbered(1)]

    trio.run(main)


def test_a_slow_listener_is_told_once_how_much_it_lost_and_goes_on() -> None:
    async def main() -> None:
        bus = EventBus()
        async with bus.subscribe(limit=4) as slow, bus.subscribe(limit=100) as quick:
            for number in range(10):
                bus.publish(numbered(number))
            # 0 to 3 were dropped for 4; then that loss, 4, 5 and 6 for 7, and 7, 8 and 9 stand.
            got = [await anext(slow) for _ in range(4)]
            assert got == [Lagged(7), *(numbered(n) for n in (7, 8, 9))]
            bus.publish(numbered(10))
            assert await anext(slow) == numbered(10)
            assert [await anext(quick) for _ in range(11)] == [numbered(n) for n in range(11)]

    trio.run(main)


def test_nobody_hears_what_came_before_or_after() -> None:
    async def main() -> None:
        bus = EventBus()
        bus.publish(StatusChanged())
        async with bus.subscribe() as events:
            bus.publish(numbered(1))
            assert await anext(events) == numbered(1)
        bus.publish(StatusChanged())
        with trio.move_on_after(0):
            raise AssertionError(await anext(events))

    trio.run(main)


def test_a_cancelled_wait_loses_nothing() -> None:
    async def main() -> None:
        bus = EventBus()
        async with bus.subscribe() as events:
            bus.publish(numbered(1))
            with trio.move_on_after(0) as scope:
                await anext(events)
            assert scope.cancelled_caught
            assert await anext(events) == numbered(1)

    trio.run(main)
