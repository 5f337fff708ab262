"""Who is a member: a fold over identity records, and the validity rule for every record.

Owns the record kinds `identity.*`, their bodies and what follows from them. It does not depend on
the order in which records arrive: two members that hold the same records hold the same roster.
Must never read a clock, a file or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from permesh.errors import Refused
from permesh.records import Header, Record, pack, unpack

from .ballot import Ballot, Ordering, Promise
from .checkpoint import Checkpoint, Vote
from .credential import Credential, Session
from .enrolment import Enrolment
from .entry import RESOLUTION, Entry, Resolution
from .genesis import Genesis, require
from .log import AdmissionLog, Batch
from .owner import MOVE, REPAIR, REVOKE, OwnerStatement
from .registry import Seat
from .signed import MAX_STATEMENT_BYTES, SKEW_MS
from .undecided import Undecided

CREDENTIAL = "identity.credential"
REQUEST = "identity.request"
APPROVAL = "identity.approval"
BATCH = "identity.batch"
VOTE = "identity.vote"
BALLOT = "identity.ballot"
PROMISE = "identity.promise"
OWNER = "identity.owner"
# What only those write who decide, or once did.
REGISTRARS_OWN = frozenset({APPROVAL, BATCH, VOTE, BALLOT, PROMISE})
KINDS = frozenset({CREDENTIAL, REQUEST, OWNER}) | REGISTRARS_OWN

REQUEST_LIFE_MS = 7 * 24 * 3_600_000
# Anyone can ask to be let in, so what asking costs the members is bounded, per sponsor and in all.
REQUESTS_PER_SPONSOR = 64
REQUESTS_IN_ALL = 256
# Keys that the log does not know, of which owners say something.
STRANGERS = 4096
# Owners' statements about one key: one who knows no better may take several for its owner.
STATEMENTS_PER_KEY = 8
OWNERS_PER_STRANGER = 64
# An agent that signs two credentials for one epoch contradicts itself. The records of both stay
# checkable; of more than a few the smallest are kept, whatever the order in which they came. With
# `MAX_EPOCH` this bounds what one agent can make everybody hold: about a quarter of the disk space
# that its credentials' records take.
CREDENTIALS_PER_EPOCH = 4


@dataclass(frozen=True, slots=True)
class Member:
    """A seat in the log, with what its agent shows now."""

    seat: Seat
    is_registrar: bool
    revoked: bool
    credential: Credential | None

    @property
    def agent(self) -> bytes:
        return self.seat.agent

    @property
    def number(self) -> int:
        return self.seat.number

    @property
    def name(self) -> str:
        return self.seat.name


@dataclass(frozen=True, slots=True)
class Request:
    """One that asks to be let in, heard by the member ``sponsor``."""

    enrolment: Enrolment
    credential: Credential
    sponsor: bytes
    heard_ms: int


@dataclass(frozen=True, slots=True)
class _Heard:
    rank: tuple[int, bytes, bytes]  # heard_ms, body hash, sponsor: no two places share one
    request: Request


class Roster:
    """The members of one mesh, as this member's records tell them."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.mesh_id = genesis.mesh_id
        self.log = AdmissionLog(genesis)
        self.ordering = Ordering(self.log)
        self._sessions: dict[bytes, dict[int, tuple[Session, ...]]] = {}  # by agent and epoch
        self._newest: dict[bytes, Credential] = {}
        self._requests: dict[tuple[bytes, bytes], _Heard] = {}  # by sponsor and agent
        self._undecided = Undecided()
        # By agent, owner and digest.
        self._owners_say: dict[bytes, dict[bytes, dict[bytes, OwnerStatement]]] = {}

    # -- the rule ------------------------------------------------------------------------------

    def check(self, record: Record, now_ms: int) -> None:
        """Validity, cheapest test first; raises ``Refused``.

        ``record.credential_unknown`` means that the record may become valid when its author's
        credential arrives, or the log says more of the author; every other code is final,
        ``record.from_future`` aside. Who is a member now is not asked: whether a record is valid
        must not depend on what came before it, what its author shows aside.
        """
        header = record.header
        if header.mesh != self.mesh_id:
            raise Refused("record.wrong_mesh", "The record belongs to another mesh.")
        if header.created_ms > now_ms + SKEW_MS:
            raise Refused("record.from_future", "The record is dated more than ten minutes ahead.")
        if header.kind == CREDENTIAL:
            self._check_credential(record)
            return
        sessions = self._sessions.get(header.author, {}).get(header.epoch, ())
        try:
            _check_signed(record, sessions)
        except Refused:
            # Where an epoch has more credentials than are kept, the record may be of one that is
            # not; other members hold it in good faith and must not be blamed for it.
            if 0 < len(sessions) < CREDENTIALS_PER_EPOCH:
                raise
            raise _unknown_yet() from None
        if header.kind in REGISTRARS_OWN:
            self._check_registrars_own(record)
        elif header.kind == OWNER:
            require(header.expires_ms == 0, "owner's record: its life")
            OwnerStatement.decode(_body(record)).verify(self.mesh_id)
        elif header.kind == REQUEST:
            enrolment, credential = _request_body(record)
            life = header.expires_ms - header.created_ms
            # Two looks at one clock stand behind these dates, and it may have been set between.
            require(0 < life <= REQUEST_LIFE_MS + SKEW_MS, "request's life")
            enrolment.verify(self.mesh_id)
            credential.verify(self.mesh_id)
            require(
                (credential.agent, credential.owner) == (enrolment.agent, enrolment.owner),
                "request: whose credential it shows",
            )

    def _check_credential(self, record: Record) -> None:
        header = record.header
        require(header.expires_ms == 0, "credential record's life")
        credential = Credential.decode(_body(record))
        if (credential.agent, credential.epoch) != (header.author, header.epoch):
            raise Refused("credential.wrong_agent", "The credential is not its author's.")
        seat = self.seat(credential.agent)
        if seat is None:
            raise _unknown_yet()
        if credential.owner != seat.owner:
            raise Refused(
                "credential.wrong_owner", "The credential names another owner than the log."
            )
        credential.verify(self.mesh_id)
        _check_signed(record, [credential.session])

    def _check_registrars_own(self, record: Record) -> None:
        """Of one who never decided it may be that the log, as it is here, is not up to date."""
        header, body = record.header, _body(record)
        if header.author not in self.log.registry.known_registrars:
            raise _unknown_yet()
        require(header.expires_ms == 0, "life of a registrar's record")
        author = header.author
        match header.kind:
            case "identity.approval":
                entry = Entry.decode(body)
                require([one.registrar for one in entry.approvals] == [author], "approval's author")
                entry.verify(self.mesh_id)
            case "identity.batch":
                batch = Batch.decode(body)
                require(batch.vote.witness == author, "batch's author")
                batch.verify(self.mesh_id)
            case "identity.vote":
                vote = Vote.decode(body)
                require(vote.witness == author, "vote's author")
                vote.verify(self.mesh_id)
            case "identity.ballot":
                Ballot.decode(body)
            case _:
                voted = Promise.decode(body).voted
                if voted is not None:
                    require(voted.witness == author, "promise's author")
                    voted.verify(self.mesh_id)

    # -- the fold ------------------------------------------------------------------------------

    def apply(self, record: Record) -> list[bytes]:
        """Take in a record that passed `check`; returns the agents about whom it says something.

        Raises ``Refused`` on a body that `check` would have refused. Other kinds are ignored.
        """
        author, body = record.header.author, record.body or b""
        match record.header.kind:
            case "identity.credential":
                self.add(Credential.decode(body))
                return [author]
            case "identity.request":
                enrolment, credential = _request_body(record)
                self._add_request(enrolment, credential, record.header)
                return [author, enrolment.agent]
            case "identity.owner":
                return [author, *self._add_statement(OwnerStatement.decode(body))]
            case "identity.approval":
                self._add_approval(Entry.decode(body))
            case "identity.batch":
                self.log.add_batch(author, Batch.decode(body))
            case "identity.vote":
                self.log.add_vote(Vote.decode(body))
            case "identity.ballot":
                self.ordering.add_ballot(author, Ballot.decode(body))
            case "identity.promise":
                self.ordering.add_promise(author, record.id, Promise.decode(body))
            case _:
                return []
        return [author, *self._advance()]

    def add(self, credential: Credential) -> None:
        """Take in a credential that was verified elsewhere (a hello's), so that records count."""
        epochs = self._sessions.setdefault(credential.agent, {})
        sessions = {*epochs.get(credential.epoch, ()), credential.session}
        epochs[credential.epoch] = tuple(sorted(sessions)[:CREDENTIALS_PER_EPOCH])
        newest = self._newest.get(credential.agent)
        if newest is None or _age(credential) < _age(newest):
            self._newest[credential.agent] = credential

    def _advance(self) -> list[bytes]:
        size = self.log.size
        changed = self.log.advance()
        for entry in self.log.take_undone():
            if entry.approvals:
                self._undecided.add(entry, self.log.registry)
        if changed or self.log.size != size:
            self._undecided.forget_decided(self.log.registry)
        return changed

    def _add_request(self, enrolment: Enrolment, credential: Credential, header: Header) -> None:
        """Keep each sponsor's newest requests, and of those the newest of all.

        What is kept is a function of the set of requests, whatever the order in which they came:
        one agent's requests by two sponsors therefore take two places, and whatever leaves could
        never have come back, since those before it only ever become newer.
        """
        sponsor = header.author
        request = Request(enrolment, credential, sponsor, header.created_ms)
        heard = _Heard((header.created_ms, header.body_hash, sponsor), request)
        place = (sponsor, enrolment.agent)
        known = self._requests.get(place)
        if known is not None and known.rank >= heard.rank:
            return
        self._requests[place] = heard
        sponsored = [one for one in self._requests if one[0] == sponsor]
        if len(sponsored) > REQUESTS_PER_SPONSOR:
            del self._requests[min(sponsored, key=lambda one: self._requests[one].rank)]
        elif len(self._requests) > REQUESTS_IN_ALL:
            del self._requests[min(self._requests, key=lambda one: self._requests[one].rank)]

    def _add_approval(self, entry: Entry) -> None:
        if entry.kind == RESOLUTION:
            content = entry.content()
            assert isinstance(content, Resolution)
            self.log.add_resolution(content, entry.approvals)
        self._undecided.add(entry, self.log.registry)

    def _add_statement(self, said: OwnerStatement) -> list[bytes]:
        """Kept even where the log knows no such agent yet, or not whose it is."""
        seat = self.seat(said.agent)
        known = self._owners_say.get(said.agent, {})
        if seat is not None:
            known = {owner: one for owner, one in known.items() if owner == seat.owner}
            if said.owner != seat.owner:
                return []
        elif len(self._owners_say) >= STRANGERS or len(known) >= OWNERS_PER_STRANGER:
            return []
        told = known.setdefault(said.owner, {})
        told[said.digest] = said
        if len(told) > STATEMENTS_PER_KEY:
            del told[max(told)]
        self._owners_say[said.agent] = known
        return [said.agent, said.new_agent] if said.act == MOVE else [said.agent]

    def _said(self, agent: bytes, owner: bytes) -> Iterable[OwnerStatement]:
        """What that owner says of a key, by digest."""
        told = self._owners_say.get(agent, {}).get(owner, {})
        return [told[digest] for digest in sorted(told)]

    # -- what follows ----------------------------------------------------------------------------

    def seat(self, agent: bytes) -> Seat | None:
        return self.log.registry.seat(agent)

    def repaired(self, agent: bytes) -> bytes | None:
        """The record with which the owner last repaired the agent's chain, by this key."""
        seat = self.seat(agent)
        said = [one for one in self._said(agent, seat.owner) if one.act == REPAIR] if seat else []
        newest = max(said, key=lambda one: (one.seq, one.said_ms, one.record), default=None)
        return newest.record if newest else None

    def agrees_with(self, checkpoint: Checkpoint) -> bool:
        return self.log.agrees_with(checkpoint)

    def offer(self, records: Iterable[Record]) -> list[bytes]:
        """Take in again batches of which one is `AdmissionLog.wanted`; returns as `apply` does."""
        for record in records:
            batch = Batch.decode(_body(record))
            if batch.checkpoint == self.log.wanted:
                self.log.add_batch(record.header.author, batch)
        return self._advance()

    def knows(self, said: OwnerStatement) -> bool:
        """Whether a record has carried this statement here."""
        return said in self._said(said.agent, said.owner)

    def is_revoked(self, agent: bytes, owner: bytes) -> bool:
        """Whether ``owner`` says so of this key; the log hears of it later."""
        return any(one.act == REVOKE for one in self._said(agent, owner))

    def member(self, agent: bytes) -> Member | None:
        """Whose key this is, or once was."""
        seat = self.seat(agent)
        return self._member(seat) if seat else None

    def _member(self, seat: Seat) -> Member:
        return Member(
            seat,
            seat.agent in self.log.registry.registrars,
            seat.revoked or self.is_revoked(seat.agent, seat.owner),
            self.credential(seat.agent),
        )

    def __len__(self) -> int:
        """How many members there are."""
        return len(self.log.registry)

    def members(self) -> list[Member]:
        """Everyone, by number."""
        return [self._member(seat) for seat in self.log.registry.seats()]

    def pending(self, now_ms: int) -> list[Request]:
        """Requests that are neither answered nor older than a week, oldest first.

        Of one agent only the newest, whoever heard it.
        """
        newest: dict[bytes, Request] = {}
        for heard in sorted(self._requests.values(), key=lambda one: one.rank):
            request = heard.request
            agent = request.enrolment.agent
            newest.pop(agent, None)
            if self.seat(agent) is None and now_ms < request.heard_ms + REQUEST_LIFE_MS:
                newest[agent] = request
        return list(newest.values())

    def approvals(self, entry: Entry) -> frozenset[bytes]:
        """The registrars that have approved it and may decide it now."""
        return self._undecided.approvals(entry, self.log.registry)

    def undecided(self) -> list[Entry]:
        """What some registrar approved and the log does not hold, oldest first."""
        torn = self.log.contradiction is not None
        return [one for one in self._undecided.entries() if torn or one.kind != RESOLUTION]

    def ready(self) -> list[Entry]:
        """What may be appended to the log now, owners' own statements first.

        Whether each of them fits is found when a batch is planned.
        """
        registry = self.log.registry
        statements = [
            Entry.of(one)
            for agent in sorted(self._owners_say)
            if (seat := self.seat(agent)) is not None
            for one in self._said(agent, seat.owner)
        ]
        waiting = [one for one in statements if not registry.holds(one.digest)]
        return waiting + self._undecided.ready(registry)

    def credential(self, agent: bytes) -> Credential | None:
        """The agent's newest credential."""
        return self._newest.get(agent)

    def session_key(self, agent: bytes, epoch: int) -> bytes | None:
        sessions = self._sessions.get(agent, {}).get(epoch)
        return sessions[0].session_key if sessions else None


def request_body(enrolment: Enrolment, credential: Credential) -> bytes:
    """What a sponsor publishes of one that asks."""
    return pack([enrolment.encode(), credential.encode()])


def _request_body(record: Record) -> tuple[Enrolment, Credential]:
    parts = unpack(_body(record), limit=2 * MAX_STATEMENT_BYTES + 16)
    require(isinstance(parts, list) and len(parts) == 2, "request record")
    return Enrolment.decode(parts[0]), Credential.decode(parts[1])


def _body(record: Record) -> bytes:
    if record.body is None:
        raise Refused("record.body_missing", "An identity record came without its body.")
    return record.body


def _unknown_yet() -> Refused:
    return Refused("record.credential_unknown", "The record's credential has not been seen yet.")


def _age(credential: Credential) -> tuple[int, Session, bytes]:
    """Smallest for the newest; of two for one epoch, the one that `Roster.session_key` is of."""
    return -credential.epoch, credential.session, credential.digest


def _check_signed(record: Record, sessions: Iterable[Session]) -> None:
    refusal = Refused(
        "record.outside_credential", "The record is dated outside its credential's life."
    )
    for session in sessions:
        if not session.covers(record.header.created_ms):
            continue
        try:
            record.verify(session.session_key)
        except Refused as error:
            refusal = error
        else:
            return
    raise refusal
