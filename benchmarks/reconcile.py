"""What it costs to hold the same forum: 100,000 records made equal, taken in, searched, shown.

The records are made once, with real signatures, in stores under `build/`. The daemons' own
driver, store, views and framing run in two processes over loopback, without libp2p between them.
Each measurement is of fresh processes: `python -m benchmarks.reconcile serve|ask|read STORE …`.
"""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import trio
from rich.console import Console

from permesh.async_store import AsyncStore
from permesh.events import EventBus
from permesh.forum import following, kinds
from permesh.forum.charter import Charter
from permesh.forum.kinds import POST, REMOVALS, ROOM, Content
from permesh.forum.personal import Personal
from permesh.forum.reader import Reader
from permesh.forum.reading import Reading
from permesh.forum.sight import Onlooker
from permesh.identity.credential import LIFE_MS
from permesh.identity.roster import CREDENTIAL, Roster
from permesh.p2p.replication import Replication
from permesh.p2p.wire import Framed
from permesh.records import NO_ROOM, Record, seal
from permesh.spaces import DAY_MS
from permesh.store import Store
from permesh.stored import Views

from . import roster
from .roster import GENESIS_KEY, SAVED_AT_ONCE, Member, founded

RECORDS = 100_000
DIFFERING = 100
THREAD = 10_000
MEMBERS = 100
ROOMS = 10
DAYS = 30
ROUNDS = 5
THREAD_OPENINGS = 5
BUILD = Path("build")
ME = b"\xff" * 20  # who looks: none of those who wrote
FRAME_BYTES = 4  # before each message on a stream


@dataclass
class Chain:
    """One author's chain as it goes on after the identity records of `roster.history`."""

    member: Member
    seq: int = 0
    prev: bytes = b""
    epoch: int = 1

    def seal(
        self, kind: str, body: bytes, now_ms: int, room: bytes, parents: tuple[bytes, ...]
    ) -> Record:
        record = seal(
            mesh=founded().mesh_id, kind=kind, author=self.member.agent.address, epoch=self.epoch,
            seq=self.seq, prev=self.prev, created_ms=now_ms, body=body,
            sign=self.member.session_of(self.epoch).sign, room=room, parents=parents,
        )  # fmt: skip
        self.seq, self.prev = self.seq + 1, record.id
        return record

    def renew(self, epoch: int, now_ms: int) -> Record:
        self.epoch = epoch
        credential = self.member.credential(founded(), epoch, now_ms)
        return self.seal(CREDENTIAL, credential.encode(), now_ms, NO_ROOM, ())


def forum_records() -> Iterator[Record]:
    """A month of a hundred members' talk in ten rooms, one thread of ten thousand among it."""
    rng = Random(4)
    chains: dict[bytes, Chain] = {}
    size = roster.Size(MEMBERS, MEMBERS)
    papers = map(roster.Papers.make, range(1, MEMBERS + 1))
    for record in roster.history(size, papers):
        author = record.header.author
        chain = chains.get(author)
        if chain is None:
            number = next(n for n in range(1, MEMBERS + 1) if Member(n).agent.address == author)
            chain = chains[author] = Chain(Member(number))
        chain.seq, chain.prev = record.header.seq + 1, record.id
        yield record
    everyone = list(chains.values())
    begin = roster.START_MS + 2 * MEMBERS * roster.STEP_MS
    first = everyone[0]
    stewards = (first.member.agent.address,)
    rooms = []
    for number in range(ROOMS):
        body = kinds.room_body(f"room-{number}", Charter(f"about {number}", stewards=stewards))
        room = first.seal(ROOM, body, begin + number, NO_ROOM, ())
        rooms.append(room.id)
        yield room
    lately: list[list[bytes]] = [[] for _ in rooms]
    thread: list[bytes] = []
    posts = RECORDS - MEMBERS * (DAYS * DAY_MS // LIFE_MS + 5)
    for number in range(posts):
        now = begin + ROOMS + (number + 1) * (DAYS * DAY_MS // posts)
        chain = rng.choice(everyone)
        epoch = 1 + (now - roster.START_MS) // (LIFE_MS - DAY_MS)
        if chain.epoch < epoch:
            yield chain.renew(epoch, now - 1)
        place = rng.randrange(ROOMS)
        if number % (posts // THREAD) == 0 and len(thread) < THREAD:
            place, said = 0, thread
        else:
            said = lately[place]
        answers = (rng.choice(said),) if said and (said is thread or rng.random() < 0.5) else ()
        body = kinds.post_body(Content(_text(rng), rooms[place]))
        post = chain.seal(POST, body, now, rooms[place], answers)
        said.append(post.id)
        if said is not thread:
            del said[:-50]
        yield post


@cache
def _words() -> list[str]:
    rng = Random(5)
    return [
        "".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 9))) for _ in range(4000)
    ]


def _text(rng: Random) -> str:
    """Some words, few of them common: as far from even as in any language."""
    words = _words()
    return " ".join(words[int(len(words) * rng.random() ** 4)] for _ in range(rng.randint(5, 30)))


def _made(console: Console) -> tuple[Path, Path, Path]:
    """Stores with all records, and two that lack fifty each, made if they are not there."""
    sample = hashlib.sha256(repr((RECORDS, MEMBERS, DAYS, THREAD)).encode())
    for record in islice(forum_records(), 5 * MEMBERS + 200):
        sample.update(record.encode())
    sample.update(_tables().encode())
    base = BUILD / f"reconcile-{sample.hexdigest()[:16]}"
    paths = (base / "whole.db", base / "one.db", base / "other.db")
    if all(path.is_file() for path in paths):
        return paths
    for old in BUILD.glob("reconcile-*"):
        shutil.rmtree(old)
    base.mkdir(parents=True)
    console.print(f"signing {RECORDS} records, once")
    records = list(forum_records())
    content = [n for n, record in enumerate(records) if record.header.kind == POST]
    lost = Random(6).sample(content, DIFFERING)
    halves = (set(), set(lost[: DIFFERING // 2]), set(lost[DIFFERING // 2 :]))
    for path, lacking in zip(paths, halves, strict=True):
        began = time.perf_counter()
        kept = [record for n, record in enumerate(records) if n not in lacking]
        partial = path.with_suffix(".partial")
        with closing(_views().open(partial)) as store:
            store.set_value(GENESIS_KEY, founded().encode())
            for start in range(0, len(kept), SAVED_AT_ONCE):
                store.save(kept[start : start + SAVED_AT_ONCE], kept[start].header.created_ms)
        partial.rename(path)
        console.print(f"{path}: {len(kept)} records in {time.perf_counter() - began:.0f} s")
    return paths


# -- the two processes ---------------------------------------------------------------------------


class Counted:
    """A framed stream that counts the bytes of its messages, both ways."""

    def __init__(self, framed: Framed) -> None:
        self._framed = framed
        self.bytes = 0

    async def send(self, message: bytes, deadline: float = 60.0) -> None:
        self.bytes += len(message) + FRAME_BYTES
        await self._framed.send(message, deadline)

    async def receive(self, deadline: float | None = 60.0) -> bytes:
        message = await self._framed.receive(deadline)
        self.bytes += len(message) + FRAME_BYTES
        return message

    async def aclose(self) -> None:
        await self._framed.aclose()


class Wire:
    """The swarm of two: the other one listens on a port of loopback, or nobody does."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.streams: list[Counted] = []

    async def open(self, _peer_id: str, _protocol: str, _deadline: float) -> Counted:
        stream = Counted(Framed(await trio.open_tcp_stream("127.0.0.1", self._port)))
        self.streams.append(stream)
        return stream

    async def publish(self, data: bytes) -> None:
        """Nobody listens to gossip here."""


async def _member(
    path: Path, wire: Wire, pulled: Callable[[], None]
) -> tuple[AsyncStore, Replication]:
    store = await _views().open_async(path)
    members = Roster(founded())
    for record in await store.read(Store.load_identity_records):
        members.apply(record)

    def fault(_peer_id: str, code: str) -> None:
        raise SystemExit(f"a fault was counted where nobody is at fault: {code}")

    replication = Replication(
        store, members, wire, EventBus(), now_ms=lambda: int(time.time() * 1000), rng=Random(7),
        fault=fault, check_format=kinds.check_record, author=ME, removals=REMOVALS,
        rooms=following.followed, on_pulled=pulled,
    )  # fmt: skip
    return store, replication


async def serve(path: Path) -> None:
    """Answer whoever connects; prints the port."""
    store, replication = await _member(path, Wire(), lambda: None)
    await replication.refresh_rooms()
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        print(listeners[0].socket.getsockname()[1], flush=True)

        async def handle(stream: trio.SocketStream) -> None:
            await replication.handle_sync(Framed(stream), "asker")

        nursery.start_soon(trio.serve_listeners, handle, listeners)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()
    await store.aclose()


async def read(path: Path) -> dict[str, float]:
    """Milliseconds of searches, and seconds until the long thread's first page is there."""
    store = await _views().open_async(path)
    onlooker = Onlooker(ME, lambda _agent: 0.0, lambda _agent: False, lambda _agent: None)
    reader = Reader(onlooker, lambda _agent: ("", ""), lambda _hash: None, lambda: 0)
    personal = Personal(
        store, me=ME, views=reader, find_agent=lambda _text: Member(2).agent.address,
        now_ms=lambda: roster.START_MS + 40 * DAY_MS, followed=lambda _room, _now: None,
    )  # fmt: skip
    words = _words()
    queries = [
        words[0], words[1], words[40], words[900], words[3999], f"{words[0]} {words[1]}",
        f'"{words[0]} {words[0]}"', f"{words[3][:2]}*", f"{words[0]} -{words[1]}",
        f"{words[0]} author:agent-2", f"{words[2]} room:room-3", f"{words[0]} before:2023-11-20",
        "has:file", "nosuchword",
    ]  # fmt: skip
    times = []
    for query in queries:
        await personal.search(query)  # as a reader's second search: the file is in memory
        began = time.perf_counter()
        await personal.search(query)
        times.append((time.perf_counter() - began) * 1000)
    reading = Reading(store, reader)
    opened = []
    for _ in range(THREAD_OPENINGS):
        began = time.perf_counter()
        page = await reading.thread(await store.read(_root))
        opened.append(time.perf_counter() - began)
        if len(page.items) != 100:
            raise SystemExit("the thread did not open")
    await store.aclose()
    return {
        "search_ms": max(times),
        "search_median_ms": statistics.median(times),
        "thread_s": statistics.median(opened),
    }


def _root(store: Store) -> str:
    """The first post of the longest thread."""
    row = store.connection.execute(
        "SELECT thread FROM forum_posts GROUP BY thread ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    return str(row[0].hex())


async def ask(path: Path, port: int, wanted: int) -> dict[str, float]:
    """Pull as the daemon does until ``wanted`` records are here."""
    wire = Wire(port)
    done = trio.Event()
    began = 0.0
    took = 0.0

    async def look() -> None:
        nonlocal took
        if await store.read(Store.count) >= wanted and not done.is_set():
            took = time.perf_counter() - began
            done.set()

    async with trio.open_nursery() as nursery:
        store, replication = await _member(path, wire, lambda: nursery.start_soon(look))
        await nursery.start(replication.run)
        began = time.perf_counter()
        replication.on_peer("answerer")
        with trio.fail_after(600):
            await done.wait()
        nursery.cancel_scope.cancel()
    await store.aclose()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": took,
        "kib": sum(stream.bytes for stream in wire.streams) / 1024,
        "sessions": len(wire.streams),
        "rss_mb": peak * (1 if sys.platform == "darwin" else 1024) / 1e6,
    }


def _views() -> Views:
    return Views(ME)


def _tables() -> str:
    """The SQL of all that a store has, so that stores of another release are made anew."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(_views().open(Path(folder, "empty.db"))) as store,
    ):
        rows = store.connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    return repr(rows)


def _run(served: Path, asking: Path, wanted: int) -> dict[str, float]:
    python = [sys.executable, "-m", "benchmarks.reconcile"]
    server = subprocess.Popen(
        [*python, "serve", str(served)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        done = subprocess.run(
            [*python, "ask", str(asking), port, str(wanted)], check=True, stdout=subprocess.PIPE
        )
    finally:
        server.stdin.close()
        server.wait(60)
    return dict(json.loads(done.stdout))


def measure(console: Console) -> dict[str, float]:
    whole, one, other = _made(console)
    with closing(Store(whole, read_only=True)) as store:
        records = store.count()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        runs = []
        for number in range(1, ROUNDS + 1):
            asking, served = Path(folder, "asking.db"), Path(folder, "served.db")
            shutil.copy(one, asking)
            shutil.copy(other, served)
            run = _run(served, asking, records)
            with (
                closing(Store(asking, read_only=True)) as a,
                closing(Store(served, read_only=True)) as b,
            ):
                if _sums(a) != _sums(b) or a.count() != records:
                    raise SystemExit("the two stores are not equal")
            console.print(
                f"differ {number}: equal after {run['seconds']:.2f} s, {run['kib']:.0f} KiB "
                f"in {run['sessions']:.0f} session(s)"
            )
            runs.append(run)
        figures["sync_diff_s"] = statistics.median(run["seconds"] for run in runs)
        figures["sync_diff_kib"] = statistics.median(run["kib"] for run in runs)
        fresh = Path(folder, "fresh.db")
        with closing(_views().open(fresh)) as store:
            store.set_value(GENESIS_KEY, founded().encode())
        run = _run(whole, fresh, records)
        console.print(
            f"fresh: {records} records in {run['seconds']:.1f} s, {run['rss_mb']:.0f} MB at most, "
            f"{run['kib'] / 1024:.0f} MiB"
        )
        figures["sync_fresh_s"] = run["seconds"]
        figures["sync_fresh_rss_mb"] = run["rss_mb"]
        command = [sys.executable, "-m", "benchmarks.reconcile", "read", str(fresh)]
        seen = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        console.print(
            f"search: {seen['search_median_ms']:.1f} ms in the median, {seen['search_ms']:.1f} at "
            f"most; a thread of {THREAD} opens in {seen['thread_s']:.3f} s"
        )
        figures["search_ms"], figures["thread_open_s"] = seen["search_ms"], seen["thread_s"]
    return figures


def _sums(store: Store) -> dict[bytes, Any]:
    return {space: store.spaces.days(space) for space in store.spaces.spaces()}


if __name__ == "__main__":
    role, file, *rest = sys.argv[1:]
    if role == "serve":
        trio.run(serve, Path(file))
    elif role == "read":
        print(json.dumps(trio.run(read, Path(file))))
    else:
        print(json.dumps(trio.run(ask, Path(file), int(rest[0]), int(rest[1]))))
