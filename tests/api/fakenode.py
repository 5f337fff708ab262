"""A node without a mesh: the real forum over a store in the home, lists for members, words for
answers, and no swarm behind it.

It behaves, where the API depends on it, as the daemon's own does: live events with a snapshot
first, answers that stop when their context is left. `Daemon` runs it behind the real API in a
thread, for clients that block; the next one on the same home finds what this one has saved.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import httpx
import trio

from permesh import schema
from permesh.api import serve_api
from permesh.api.problems import explain
from permesh.config import Home
from permesh.errors import NotFound, PermeshError
from permesh.events import EventBus, RecordsSaved
from permesh.feed import Feed
from permesh.identity.owner import OwnerStatement
from permesh.node import ChatDelta, ChatRequest, NodeEvent
from permesh.records import Record
from tests.api.realforum import RealForum, Somebody, arrive, open_store

AGENT = "0x" + "a1" * 20
OWNER = "0x" + "b2" * 20
MODEL = "tiny"
BIG_MODEL = "org/big-model"
WORDS = ("Bees ", "carry ", "pollen ", "between ", "trees.")
ME = bytes.fromhex(AGENT[2:])
BIRCH = b"\xd4" * 20  # another member, of the forum alone
PEOPLE = {"atlas": ME, "birch": BIRCH}
NOW = 1_760_000_000_000
RENEWS, EXPIRES = 48 * 3_600_000, 72 * 3_600_000

ROUTE = schema.Route(
    route="exposed",
    revision="ab" * 32,
    stages=[
        schema.Stage(
            number="AGT-0001", name="atlas", agent=AGENT, first=0, last=6, lane="local",
            bytes_sent=2304, milliseconds=1.5, saw="everything",
        ),
        schema.Stage(
            number="AGT-0002", name="birch", agent=OWNER, first=6, last=18, lane="tls",
            bytes_sent=4608, milliseconds=3.0, saw="activations",
        ),
    ],
    token_ids=[1, 2, 3, 4, 5],
    prompt_tokens=7,
    tokens_per_second=20.0,
    ttft_seconds=0.25,
)  # fmt: skip


class FakeNode:
    """``start_ms``: what its clock, which goes on by a millisecond with each look, begins with."""

    def __init__(self, start_ms: int = NOW) -> None:
        self.clock = start_ms
        self.birch = Somebody(BIRCH, self.now_ms)
        self.bus = EventBus()
        self.pending = {"0x" + "c3" * 20: "coral"}
        self.admitted: list[schema.Member] = []
        self.public_record = [
            schema.ChronicleEvent(at_ms=NOW, kind="admission", text="named by the genesis", entry=1)
        ]
        self.left_out = 0
        self.wanted: dict[str, schema.NewProposal] = {}  # by the proposal's id
        self.waiting: dict[str, schema.Proposal] = {}
        self.needed = 2  # approvals that decide
        self.cosigned = True  # by the log's witnesses, once the approvals are there
        self.accepted: list[schema.Release] = []
        self.ways_on: list[str] = []  # roots, of a log that contradicts itself
        self.owners_say: list[OwnerStatement] = []
        self.log: schema.Log | None = None
        self.served: dict[str, schema.Span] = {}
        self.asked: list[ChatRequest] = []
        self.listeners: set[trio.MemorySendChannel[NodeEvent]] = set()
        self.answering = 0  # chat contexts that are open
        self.changed = trio.Condition()

    def now_ms(self) -> int:
        self.clock += 1
        return self.clock

    @asynccontextmanager
    async def opened(self, home: Home) -> AsyncIterator[None]:
        """Its forum, for as long as a daemon runs it on a home."""
        async with open_store(home.root, ME) as store:
            self.real = RealForum(store, home.root, ME, PEOPLE, self.now_ms, self._saved)
            self.forum, self.attachments = self.real.forum, self.real.attachments
            self._feed = Feed(store, self)
            yield

    def _saved(self, record: Record) -> None:
        self.bus.publish(RecordsSaved((record,), True))

    async def receive(self, *records: Record) -> None:
        """What others wrote comes in."""
        await self.real.store.save(records, self.now_ms())
        self.bus.publish(RecordsSaved(tuple(records), False))

    def arrive(self, home: Home, *records: Record) -> None:
        """The same while no daemon runs on the home."""
        arrive(home.root, ME, self.now_ms(), *records)

    async def status(self) -> schema.Status:
        return schema.Status(
            version="0.1.0", name="atlas", agent=AGENT, number="AGT-0001", pid=1, started_ms=NOW,
            peer_id="12D3KooW", addresses=["/ip4/127.0.0.1/tcp/9470/p2p/12D3KooW"],
            mesh=schema.Mesh(id="cd" * 32, name="orchard", state="member", members=2),
            credential=schema.CredentialState(
                epoch=0, issued_ms=NOW, renews_ms=NOW + RENEWS, expires_ms=NOW + EXPIRES
            ),
            peers=[], serving=list(self.served.values()),
            engine=schema.Engine(state="stopped"), records=0, log=self.log,
        )  # fmt: skip

    async def identity(self) -> schema.Identity:
        return schema.Identity(
            name="atlas", number="AGT-0001", agent=AGENT, owner=OWNER, peer_id="12D3KooW",
            session_key="ef" * 32, mesh="orchard", mesh_id="cd" * 32, runtime="permesh/0.1.0",
            runtime_hash="01" * 32, admitted_ms=NOW, epoch=0, issued_ms=NOW,
            rotates_ms=NOW + RENEWS, expires_ms=NOW + EXPIRES, standing=1.0,
            standing_note="a founding registrar",
        )  # fmt: skip

    def _members(self) -> list[schema.Member]:
        first = schema.Member(
            agent=AGENT,
            owner=OWNER,
            number="AGT-0001",
            name="atlas",
            state="registrar",
            online=True,
        )
        waiting = [
            schema.Member(agent=agent, owner=OWNER, number="", name=name, state="pending")
            for agent, name in self.pending.items()
        ]
        return [first, *self.admitted, *waiting]

    async def members(self, cursor: str | None, limit: int) -> schema.Members:
        items, following = _page(self._members(), cursor, limit)
        return schema.Members(items=items, next_cursor=following)

    async def admit(self, agent: str, person: str | None) -> schema.Member:
        if person is None:
            raise PermeshError("person.needed", "Who is it?", "Say it with --person WHO")
        for address, name in self.pending.items():
            if agent in (address, name):
                del self.pending[address]
                number = f"AGT-{len(self.admitted) + 2:04d}"
                member = schema.Member(
                    agent=address, owner=OWNER, number=number, name=name, state="member"
                )
                self.admitted.append(member)
                return member
        raise NotFound("member.unknown", f"Nobody called '{agent}' asks to be let in.")

    def _member(self, reference: str) -> schema.Member:
        for member in self._members():
            if member.number and reference in (member.number, member.name, member.agent):
                return member
        raise NotFound(
            "members.unknown",
            f"There is no member '{reference}'.",
            "See who is one: permesh members",
        )

    async def chronicle(self, agent: str) -> schema.Chronicle:
        member = self._member(agent)
        return schema.Chronicle(
            agent=member.agent, number=member.number, name=member.name, items=self.public_record,
            left_out=self.left_out,
        )  # fmt: skip

    async def proposals(self) -> schema.Proposals:
        return schema.Proposals(items=list(self.waiting.values()))

    async def propose(self, wanted: schema.NewProposal) -> schema.Proposal:
        about = self._about(wanted)
        digest = hashlib.sha256(wanted.model_dump_json().encode()).hexdigest()
        self.wanted[digest] = wanted
        proposal = schema.Proposal(
            id=digest, kind=wanted.kind, about=about, approvals=[], needed=self.needed,
            decided=False,
        )  # fmt: skip
        known = self.waiting.setdefault(digest, proposal)
        return self._approve(known, "AGT-0001")

    def _about(self, wanted: schema.NewProposal) -> str:
        match wanted.kind:
            case "registrars":
                if wanted.added == wanted.removed:
                    raise PermeshError("identity.field", "Nothing changes.", "Name a member.")
                added, removed = (
                    self._member(one).name if one else "nobody"
                    for one in (wanted.added, wanted.removed)
                )
                return f"{added} takes the place of {removed}"
            case "suspension" | "reinstatement":
                return f"{self._member(wanted.agent).name}, {wanted.kind}: {wanted.reason}"
            case "release":
                return f"release {wanted.version}, accepted: {wanted.accepted}"
            case "resolution":
                found = [one for one in self.ways_on if wanted.root and one.startswith(wanted.root)]
                if len(found) != 1:
                    raise PermeshError(
                        "resolution.which",
                        "The log goes on in two ways; choose one by its root.",
                        "; ".join(f"permesh mesh resolve {one[:16]}" for one in self.ways_on),
                    )
                return f"the log goes on with {found[0]}"

    async def approve(self, proposal: str) -> schema.Proposal:
        found = [one for one in self.waiting.values() if one.id.startswith(proposal)]
        if not found:
            raise NotFound(
                "proposal.unknown",
                f"No proposal begins with '{proposal}'.",
                "See what waits: permesh proposals",
            )
        if len(found) > 1:
            raise PermeshError(
                "proposal.ambiguous",
                f"'{proposal}' stands for {len(found)} proposals.",
                "Give more of the id that 'permesh proposals' shows.",
                http_status=409,
            )
        return self._approve(found[0], "AGT-0001")

    def _approve(self, proposal: schema.Proposal, number: str) -> schema.Proposal:
        if number not in proposal.approvals:
            proposal.approvals = sorted([*proposal.approvals, number])
        if len(proposal.approvals) >= self.needed and self.cosigned:
            proposal.decided = True
            self.waiting.pop(proposal.id, None)
            wanted = self.wanted[proposal.id]
            if wanted.kind == "release":
                self.accepted.append(
                    schema.Release(
                        version=wanted.version, runtime_hash=wanted.runtime_hash,
                        accepted=wanted.accepted, decided_ms=NOW,
                    )
                )  # fmt: skip
        return proposal

    async def approved_by_another(self) -> None:
        """Of all that waits."""
        for proposal in list(self.waiting.values()):
            self._approve(proposal, "AGT-0002")

    async def releases(self) -> schema.Releases:
        return schema.Releases(items=self.accepted)

    async def tell_owner(self, statement: str) -> schema.Told:
        self.owners_say.append(OwnerStatement.decode(bytes.fromhex(statement)))
        return schema.Told(name="atlas")

    async def invite(self) -> schema.Invite:
        return schema.Invite(line="permesh1:AAAA")

    async def models(self, cursor: str | None, limit: int) -> schema.Models:
        items = [
            schema.LocalModel(
                name=name, revision="ab" * 32, layers=30, bytes=270_000_000, local=here,
                served=[span for span in self.served.values() if span.model == name],
                reachable=here,
            )
            for name, here in ((MODEL, True), (BIG_MODEL, True), ("nowhere", False))
        ]  # fmt: skip
        page, following = _page(items, cursor, limit)
        return schema.Models(items=page, next_cursor=following)

    async def serve(self, model: str, layers: str) -> schema.Span:
        self._known(model)
        first, _, last = (layers or "0:30").partition(":")
        if not (first.isdecimal() and last.isdecimal() and int(last) <= 30):
            raise PermeshError("layers.invalid", f"{model} has 30 layers.", "Choose 0:30.")
        self.served[model] = schema.Span(
            agent=AGENT, number="AGT-0001", name="atlas", peer_id="12D3KooW", model=model,
            revision="ab" * 32, first=int(first), last=int(last),
        )  # fmt: skip
        return self.served[model]

    async def stop_serving(self, model: str) -> None:
        self._known(model)
        self.served.pop(model, None)

    def _known(self, model: str) -> None:
        if model not in (MODEL, BIG_MODEL):
            raise NotFound(
                "model.unknown", f"The model '{model}' is not here.",
                "Fetch it with: permesh model fetch NAME",
            )  # fmt: skip

    # -- events: `feed.Source`, and what a test says by `tell`

    @asynccontextmanager
    async def events(self, after: str | None = None) -> AsyncIterator[AsyncIterator[NodeEvent]]:
        async with self.bus.subscribe() as subscription:
            position = await self._feed.position(after)
            send, receive = trio.open_memory_channel[NodeEvent](0)

            async def pump() -> None:
                async with aclosing(self._feed.tell(subscription, position)) as told:
                    async for event in told:
                        await send.send(event)

            await self._change(partial(self.listeners.add, send))
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump)
                    yield receive
                    nursery.cancel_scope.cancel()
            finally:
                self.listeners.discard(send)
                receive.close()
                with trio.CancelScope(shield=True):
                    await self._change(lambda: None)

    async def tell(self, name: str, data: schema.BaseModel) -> None:
        for listener in list(self.listeners):
            await listener.send(NodeEvent(name, data))

    async def snapshot(self) -> schema.Snapshot:
        rooms = (await self.forum.rooms(None, 200)).items
        return schema.Snapshot(
            status=await self.status(), rooms=rooms, members=self._members(), spans=[]
        )

    async def shown(self, records: Sequence[Record]) -> list[tuple[str, schema.BaseModel]]:
        return [
            ("room" if isinstance(item, schema.Room) else "post", item)
            for item in await self.forum.shown(records)
        ]

    def changed_members(self, _: object) -> list[schema.Member]:
        return []

    def spans(self) -> list[schema.Span]:
        return list(self.served.values())

    def changed_spans(self, *_: object) -> list[schema.Span]:
        return []

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatDelta]]:
        self._known(request.model)
        self.asked.append(request)
        await self._change(partial(self._count, 1))
        try:
            async with trio.open_nursery() as nursery:  # as the daemon's own answers do
                send, receive = trio.open_memory_channel[ChatDelta](0)
                failure: list[PermeshError] = []
                nursery.start_soon(self._answer, request, send, failure)
                yield _deltas(receive, failure)
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await self._change(partial(self._count, -1))

    async def _answer(
        self,
        request: ChatRequest,
        send: trio.MemorySendChannel[ChatDelta],
        failure: list[PermeshError],
    ) -> None:
        """What is asked decides how it goes: 'silence', 'break', 'endless', else the words."""
        kind = request.messages[-1].content
        limit = request.max_tokens or len(WORDS)
        async with send:
            if kind == "silence":
                await trio.sleep_forever()
            while kind == "endless":
                await send.send(ChatDelta("again and again " * 256))
            for count, word in enumerate(WORDS[:limit], 1):
                await send.send(ChatDelta(word))
                if kind == "break" and count == 2:
                    failure.append(
                        PermeshError(
                            "stage.lost", "AGT-0002 went away.", "Ask again.", http_status=502
                        )
                    )
                    return
            reason = "length" if limit < len(WORDS) else "stop"
            await send.send(ChatDelta("", reason, 7, min(limit, len(WORDS)), ROUTE))

    def _count(self, change: int) -> None:
        self.answering += change

    async def _change(self, change: partial[None]) -> None:
        async with self.changed:
            change()
            self.changed.notify_all()

    async def until(self, condition) -> None:
        """Wait until ``condition()`` of this node holds."""
        async with self.changed:
            while not condition():
                await self.changed.wait()


async def _deltas(receive, failure) -> AsyncIterator[ChatDelta]:
    async for delta in receive:
        yield delta
    if failure:
        raise failure[0]


def _page(items: list, cursor: str | None, limit: int) -> tuple[list, str | None]:
    if cursor is not None and not (cursor.isdecimal() and len(cursor) < 10):
        raise PermeshError("page.cursor", "The cursor is not one of ours.", "Begin without one.")
    start = int(cursor or 0)
    end = start + limit
    return items[start:end], str(end) if end < len(items) else None


class Daemon:
    """The fake node behind the real API, in a thread with a trio loop of its own."""

    def __init__(self, home: Home, node: FakeNode, **options) -> None:
        self.home = home
        self.node = node
        self._options = options
        self._ready = threading.Event()
        self._error: PermeshError | None = None
        self._thread = threading.Thread(target=trio.run, args=(self._run,))

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        try:
            with self._scope:
                async with self.node.opened(self.home), trio.open_nursery() as nursery:
                    await nursery.start(partial(serve_api, self.node, self.home, **self._options))
                    self._ready.set()
        except Exception as error:
            self._error = explain(error)
        finally:
            self._ready.set()

    def __enter__(self):
        self._thread.start()
        self._ready.wait(10)
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join(10)
        assert not self._thread.is_alive(), "the daemon did not end"

    def run(self, function, *arguments):
        """Call an async function of the node inside the daemon's loop, within 10 s."""

        async def bounded():
            with trio.fail_after(10):
                return await function(*arguments)

        return trio.from_thread.run(bounded, trio_token=self._token)


@contextmanager
def running(home: Home, node: FakeNode | None = None, **options):
    with Daemon(home, node or FakeNode(), **options) as daemon:
        yield daemon


def raw(daemon: Daemon) -> httpx.Client:
    """For requests that our own clients do not make."""
    transport = httpx.HTTPTransport(uds=str(daemon.home.socket), verify=False)
    return httpx.Client(transport=transport, base_url="http://permesh", timeout=10)
