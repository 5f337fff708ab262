"""Simulated members that do harm: each kind in a way of its own, and it takes part in the rest."""

from __future__ import annotations

from dataclasses import replace

from permesh.p2p import gossip, sync_messages
from permesh.p2p.sync import asker  # whose encoding a test may have set aside
from permesh.p2p.sync_messages import (
    Answer,
    Contents,
    Days,
    Differing,
    Heads,
    Lack,
    Message,
    Newer,
    Records,
    Want,
)
from permesh.records import MAX_UINT, Record
from permesh.spaces import DAY_MS, FINGERPRINT_BYTES, SPACE_COMMONS, Sum
from tests.simulator import START_MS, Author
from tests.sync.forum_nodes import Member, unpack


class Hostile(Member):
    """One of several kinds. It takes part in everything else, so that it is heard at all."""

    hostile = True

    def fault(self, peer: str, code: str) -> None:
        """It blames nobody."""

    def act(self) -> None:
        """What it does from time to time while the trouble lasts."""
        self.post(self.net.rng.choice(self.rooms), b"hostile")

    def says(self, peer: str, data: bytes) -> bytes | None:  # noqa: ARG002 - to all alike
        said = self.twist(unpack(data))
        return None if said is None else said if isinstance(said, bytes) else asker.encode(said)

    def twist(self, message: Message) -> Message | bytes | None:
        return message

    def random_sum(self) -> Sum:
        count = self.rng.choice([0, 1, 30, self.rng.randrange(10**4), MAX_UINT])
        return Sum(count, self.rng.randbytes(FINGERPRINT_BYTES))

    def random_ids(self, number: int) -> tuple[bytes, ...]:
        return tuple(sorted(self.rng.randbytes(32) for _ in range(number)))


class Withholding(Hostile):
    """Lists what it does not give, and tells nobody of what it writes."""

    def act(self) -> None:
        self._saved(self.store.save([self.seal(self.rng.choice(self.rooms), b"kept back")]))

    def twist(self, message: Message) -> Message:
        if isinstance(message, Records):
            return Records(tuple(w for w in message.wires if self.rng.randrange(2)), message.left)
        return message


class Lying(Hostile):
    """Answers with wrong sums, of spaces, days or parts."""

    def twist(self, message: Message) -> Message:
        if self.rng.randrange(3) == 0:
            return message
        match message:
            case Answer(spaces, own, offers):
                lies = (held and replace(held, sum=self.random_sum()) for held in spaces)
                return Answer(tuple(lies), own, offers)
            case Differing(days):
                return Differing(tuple((day, self.random_sum()) for day, _ in days))
            case Contents(contents):
                return Contents(
                    tuple(
                        tuple(self.random_sum() for _ in c) if len(c) == 16 else c[1:]
                        for c in contents
                    )
                )
        return message


class Garbling(Hostile):
    """Sends what is not in form, or not in turn, and forged records."""

    def act(self) -> None:
        self.net.publish(self, self.rng.randbytes(60))
        victim = self.net.rng.choice(list(self.store.records.values()))
        forged = [victim.header_bytes, self.rng.randbytes(64), victim.body]
        stranger = Author(f"stranger of {self.name}").write(room=self.rooms[0])
        wires = (None, [b""], forged, [victim.header_bytes, victim.signature, None])
        message = gossip.NewRecords((*wires, stranger.to_wire()), ())
        self.net.publish(self, gossip.encode(message))

    def twist(self, message: Message) -> Message | bytes:
        data = sync_messages.encode(message)
        return self.rng.choice([
            message, message, message, data[:-1], self.rng.randbytes(40), b"",
            Heads(SPACE_COMMONS, 0, ()), Want(self.random_ids(3)), Newer((), more=True),
            Records((self.rng.randbytes(9), None), 1), Days(SPACE_COMMONS, 9, 3, ()),
            Contents((self.random_ids(2),)),
        ])  # fmt: skip


class Flooding(Hostile):
    """Writes more than anybody reads, and tells of much more than there is."""

    def act(self) -> None:
        for number in range(12):
            self.post(self.rooms[number % len(self.rooms)], b"buy %d" % number)
        names = self.net.rng.sample(list(self.net.nodes), 20)
        heads = tuple((SPACE_COMMONS, self.net.nodes[n].author.address, MAX_UINT) for n in names)
        self.net.publish(self, gossip.encode(gossip.NewRecords((), heads)))

    def twist(self, message: Message) -> Message:
        """As one who asks it says that others lack what nobody ever wrote."""
        if isinstance(message, Heads | Days) and self.rng.randrange(2):
            return Lack(message.space, self.random_ids(4096))
        return message


class Forking(Hostile):
    """Tells some of its neighbours one story and the others another one, dated anywhere."""

    def act(self) -> None:
        room = self.rng.choice(self.rooms)
        before = replace(self.author)
        day = self.rng.randrange(200) * DAY_MS
        near = self.net.near(self)
        for number, some in enumerate((near[::2], near[1::2])):
            self.author = replace(before)
            record = self.seal(room, b"story %d" % number, created_ms=START_MS - day)
            self._saved(self.store.save([record]))
            self.net.publish(self, gossip.encode(told(record)), some)


class Backwards(Hostile):
    """Sends children before their parents, and an author's later records before the earlier."""

    def act(self) -> None:
        room = self.rng.choice(self.rooms)
        thread: list[Record] = []
        for number in range(4):
            parents = (thread[-1].id,) if thread else ()
            thread.append(self.seal(room, b"%d" % number, parents=parents))
        self._saved(self.store.save(thread))
        for number, record in enumerate(reversed(thread)):
            data = gossip.encode(told(record))
            self.net.at(500 * number, lambda data=data: self.net.publish(self, data))


class Silent(Hostile):
    """Leaves others waiting for its answer."""

    def twist(self, message: Message) -> Message | None:
        return message if self.rng.randrange(3) else None


KINDS: tuple[type[Hostile], ...] = (
    Withholding, Lying, Garbling, Flooding, Forking, Backwards, Silent,
)  # fmt: skip


def told(record: Record) -> gossip.NewRecords:
    space, author, seq = record.header.room, record.header.author, record.header.seq
    return gossip.NewRecords((record.to_wire(),), ((space, author, seq),))
