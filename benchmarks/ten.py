"""Ten real daemons on this machine, and a burst of a thousand posts that must reach them all."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from permesh.config import Home
from permesh.demo import MEET_SECONDS, Member, has_room, mail, stop, wait_for

from .forum import Watcher

NAMES = ("atlas", "birch", "coral", "delta", "ember", "fjord", "grove", "heron", "islet", "jetty")
EACH = 100
BURST_SECONDS = 120.0
ROOM = "bench"


def measure(console: Console) -> dict[str, float]:
    root = Path(tempfile.mkdtemp(prefix="permesh-", dir="/tmp"))
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PERMESH_HOME", None)
    members = [Member(name, Home(root / name), environment) for name in NAMES]
    try:
        _found(members, console)
        return _burst(members, console)
    finally:
        stop(members)
        shutil.rmtree(root, ignore_errors=True)


def _found(members: list[Member], console: Console) -> None:
    first, *others = members
    for member in members:
        member.run("init", "--name", member.name)
    first.run("mesh", "create", "ten", "--person", mail(first))
    first.start()
    line = first.client.invite().line
    for member in others:
        member.run("mesh", "join", line, "--person", mail(member))
        member.start()
        agent = member.client.status().agent
        wait_for(f"{member.name}'s request", MEET_SECONDS, partial(_knows, first, agent))
        first.client.admit(agent, mail(member))
    for member in members:
        wait_for(f"{member.name} to see the nine", MEET_SECONDS, partial(_sees_all, member))
    first.client.create_room(ROOM, "measurements")
    for member in others:
        wait_for(f"the room at {member.name}", MEET_SECONDS, partial(has_room, member, ROOM))
    console.print(f"{len(members)} daemons, each connected to all others")


def _knows(member: Member, agent: str) -> bool:
    return any(one.agent == agent for one in member.client.members().items)


def _sees_all(member: Member) -> bool:
    return len(member.client.status().peers) == len(NAMES) - 1


def _burst(members: list[Member], console: Console) -> dict[str, float]:
    watchers = [Watcher(member) for member in members]
    posted: list[list[str]] = [[] for _ in members]

    def write(number: int) -> None:
        client = members[number].client
        for count in range(EACH):
            posted[number].append(client.post(ROOM, f"burst {number} {count}").id)

    started = time.monotonic()
    writers = [threading.Thread(target=write, args=(n,)) for n in range(len(members))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    took_to_post = time.monotonic() - started
    ids = {item for some in posted for item in some}
    for watcher in watchers:
        watcher.wait(ids, max(1.0, started + BURST_SECONDS - time.monotonic()))
    took = time.monotonic() - started
    not_posted = len(members) * EACH - len(ids)
    lost = not_posted + sum(len(ids - watcher.seen.keys()) for watcher in watchers)
    twice = sum(watcher.seen[post] > 1 for watcher in watchers for post in ids)
    console.print(
        f"burst of {len(ids)} by ten: posted in {took_to_post:.1f} s, "
        f"everywhere after {took:.1f} s, {lost} lost, {twice} twice"
    )
    return {"burst10_lost": lost + twice}
