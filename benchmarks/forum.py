"""How fast a post is elsewhere, and whether a burst arrives whole."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter
from functools import partial

from rich.console import Console

from permesh import schema
from permesh.demo import MEET_SECONDS, Member, has_room, wait_for

from .fleet import Fleet

QUIET_POSTS = 40
QUIET_SECONDS = 0.4  # between two posts, so that each one travels alone
BURST = 500
BURST_SECONDS = 60.0
ROOM = "bench"


class Watcher:
    """Listens to one member's `/events` and notes when each post was seen, and how often."""

    def __init__(self, member: Member) -> None:
        self.seen: Counter[str] = Counter()
        self.when: dict[str, float] = {}
        self._changed = threading.Condition()
        self._member = member
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._ready.wait(MEET_SECONDS):
            raise TimeoutError(f"{member.name} sent no snapshot")

    def _listen(self) -> None:
        for _, event in self._member.client.events():
            self._ready.set()
            if isinstance(event, schema.Post):
                with self._changed:
                    self.seen[event.id] += 1
                    self.when.setdefault(event.id, time.monotonic())
                    self._changed.notify_all()

    def wait(self, ids: set[str], seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: ids <= self.seen.keys(), timeout=seconds)


def measure(fleet: Fleet, console: Console) -> dict[str, float]:
    author, *others = fleet.demo.members
    author.client.create_room(ROOM, "measurements")
    for other in others:
        wait_for(f"the room at {other.name}", MEET_SECONDS, partial(has_room, other, ROOM))
    watchers = [Watcher(other) for other in others]
    latencies = []
    for number in range(QUIET_POSTS):
        started = time.monotonic()
        post = author.client.post(ROOM, f"quiet {number}")
        for watcher in watchers:
            watcher.wait({post.id}, MEET_SECONDS)
        latencies.append(max(watcher.when[post.id] for watcher in watchers) - started)
        time.sleep(QUIET_SECONDS)
    console.print(
        f"post latency over {QUIET_POSTS}: median {statistics.median(latencies):.3f} s, "
        f"max {max(latencies):.3f} s"
    )
    lost, twice = _burst(author, watchers, console)
    return {"post_latency_s": statistics.median(latencies), "burst_lost": lost + twice}


def _burst(author: Member, watchers: list[Watcher], console: Console) -> tuple[int, int]:
    started = time.monotonic()
    ids = {author.client.post(ROOM, f"burst {number}").id for number in range(BURST)}
    posted = time.monotonic() - started
    for watcher in watchers:
        watcher.wait(ids, BURST_SECONDS)
    took = time.monotonic() - started
    lost = sum(len(ids - watcher.seen.keys()) for watcher in watchers)
    twice = sum(watcher.seen[post] > 1 for watcher in watchers for post in ids)
    console.print(
        f"burst of {BURST}: posted in {posted:.1f} s, everywhere after {took:.1f} s, "
        f"{lost} lost, {twice} twice"
    )
    return lost, twice
