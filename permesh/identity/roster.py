"""Who is a member: a fold over identity records, and the validity rule for every record.

Owns the record kinds `identity.*`, their bodies and what follows from them. It does not depend on
the order in which records arrive: two members that hold the same records hold the same roster.
Must never read a clock, a file or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from permesh.errors import Refused
from permesh.records import Header, Record, pack, unpack

from .credential import SKEW_MS, Admission, Credential, Enrolment, Session
from .genesis import Genesis, require
from .hello import MAX_HELLO_BYTES, Proof

CREDENTIAL = "identity.credential"
REQUEST = "identity.request"
ADMISSION = "identity.admission"
KINDS = frozenset({CREDENTIAL, REQUEST, ADMISSION})

REQUEST_LIFE_MS = 7 * 24 * 3_600_000
# Anyone can ask to be let in, so what asking costs the members is bounded, per sponsor and in all.
REQUESTS_PER_SPONSOR = 64
REQUESTS_IN_ALL = 256
# An agent that signs two credentials for one epoch contradicts itself. The records of both stay
# checkable; of more than a few the smallest are kept, whatever the order in which they came. With
# `MAX_EPOCH` this bounds what one agent can make everybody hold: about a quarter of the disk space
# that its credentials' records take.
CREDENTIALS_PER_EPOCH = 4


@dataclass(frozen=True, slots=True)
class Member:
    """``admitted_by`` is the registrar's address (its own for a founder)."""

    agent: bytes
    owner: bytes
    number: int
    name: str
    is_registrar: bool
    admitted_by: bytes
    requested_ms: int
    admitted_ms: int
    credential: Credential | None


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
        self._admissions: dict[bytes, tuple[Admission, Enrolment]] = {}  # by encoded admission
        self._sessions: dict[bytes, dict[int, tuple[Session, ...]]] = {}  # by agent and epoch
        self._newest: dict[bytes, Credential] = {}
        self._enrolments: dict[bytes, Enrolment] = {}  # of founders
        self._requests: dict[tuple[bytes, bytes], _Heard] = {}  # by sponsor and agent
        self._winners: dict[bytes, tuple[Admission, Enrolment]] | None = None

    # -- the rule ------------------------------------------------------------------------------

    def check(self, record: Record, now_ms: int) -> None:
        """Validity, cheapest test first; raises ``Refused``.

        ``record.credential_unknown`` means that the record may become valid when its author's
        credential arrives; every other code is final, ``record.from_future`` aside.
        Who is a member now is not asked: whether a record is valid must not depend on what came
        before it, its credential aside.
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
            raise Refused(
                "record.credential_unknown", "The record's credential has not been seen yet."
            ) from None
        if header.kind == ADMISSION:
            require(header.expires_ms == 0, "admission record's life")
            enrolment, admission = _admission_body(record)
            if admission.registrar != header.author:
                raise Refused("admission.not_registrar", "The admission is another registrar's.")
            enrolment.verify(self.mesh_id)
            admission.verify(enrolment, self.genesis)
        elif header.kind == REQUEST:
            proof = _proof_body(record)
            require(proof.admission is None, "request: it shows an admission")
            life = header.expires_ms - header.created_ms
            # Two looks at one clock stand behind these dates, and it may have been set between.
            require(0 < life <= REQUEST_LIFE_MS + SKEW_MS, "request's life")
            proof.verify(self.genesis)

    def _check_credential(self, record: Record) -> None:
        header = record.header
        require(header.expires_ms == 0, "credential record's life")
        proof = _proof_body(record)
        credential = proof.credential
        if (credential.agent, credential.epoch) != (header.author, header.epoch):
            raise Refused("credential.wrong_agent", "The credential is not its author's.")
        if proof.verify(self.genesis) is None:
            raise Refused("credential.not_admitted", "The credential's agent was never admitted.")
        _check_signed(record, [credential.session])

    # -- the fold ------------------------------------------------------------------------------

    def apply(self, record: Record) -> list[bytes]:
        """Take in a record that passed `check`; returns the agents about whom it says something.

        Raises ``Refused`` on a body that `check` would have refused. Other kinds are ignored.
        """
        kind = record.header.kind
        if kind == CREDENTIAL:
            proof = _proof_body(record)
            self._add_credential(proof)
            return [proof.credential.agent]
        if kind == ADMISSION:
            enrolment, admission = _admission_body(record)
            self._add_admission(admission, enrolment)
            return [admission.agent]
        if kind == REQUEST:
            proof = _proof_body(record)
            self._add_request(proof, record.header)
            return [proof.enrolment.agent]
        return []

    def add(self, proof: Proof) -> Member | None:
        """Take in a proof that verified elsewhere (a hello), so that its author's records count.

        Returns the member that it shows: None where another's admission stands against it (for
        its owner or its number). Raises ``Refused`` for one that only asks to be let in.
        """
        if proof.admission is None and self.genesis.number_of(proof.enrolment.agent) is None:
            raise Refused("credential.not_admitted", "The credential's agent was never admitted.")
        self._add_credential(proof)
        return self.member(proof.enrolment.agent)

    def _add_credential(self, proof: Proof) -> None:
        credential, agent = proof.credential, proof.credential.agent
        epochs = self._sessions.setdefault(agent, {})
        sessions = {*epochs.get(credential.epoch, ()), credential.session}
        epochs[credential.epoch] = tuple(sorted(sessions)[:CREDENTIALS_PER_EPOCH])
        newest = self._newest.get(agent)
        if newest is None or _age(credential) < _age(newest):
            self._newest[agent] = credential
        if proof.admission is not None:
            self._add_admission(proof.admission, proof.enrolment)
            return
        known = self._enrolments.get(agent)
        if known is None or proof.enrolment.digest < known.digest:
            self._enrolments[agent] = proof.enrolment

    def _add_admission(self, admission: Admission, enrolment: Enrolment) -> None:
        encoded = admission.encode()
        if encoded not in self._admissions:
            self._admissions[encoded] = (admission, enrolment)
            self._winners = None

    def _add_request(self, proof: Proof, header: Header) -> None:
        """Keep each sponsor's newest requests, and of those the newest of all.

        What is kept is a function of the set of requests, whatever the order in which they came:
        one agent's requests by two sponsors therefore take two places, and whatever leaves could
        never have come back, since those before it only ever become newer.
        """
        sponsor = header.author
        request = Request(proof.enrolment, proof.credential, sponsor, header.created_ms)
        heard = _Heard((header.created_ms, header.body_hash, sponsor), request)
        place = (sponsor, proof.enrolment.agent)
        known = self._requests.get(place)
        if known is not None and known.rank >= heard.rank:
            return
        self._requests[place] = heard
        sponsored = [one for one in self._requests if one[0] == sponsor]
        if len(sponsored) > REQUESTS_PER_SPONSOR:
            del self._requests[min(sponsored, key=lambda one: self._requests[one].rank)]
        elif len(self._requests) > REQUESTS_IN_ALL:
            del self._requests[min(self._requests, key=lambda one: self._requests[one].rank)]

    def _admitted(self) -> dict[bytes, tuple[Admission, Enrolment]]:
        """One admission an agent, an owner and a number: the lowest number wins, then the bytes.

        Founders come first. Deterministic in the set of admissions, whatever their order.
        """
        if self._winners is None:
            owners = {one.owner for one in self.genesis.registrars}
            agents = {one.agent for one in self.genesis.registrars}
            numbers: set[int] = set()
            winners = {}
            for encoded in sorted(
                self._admissions, key=lambda item: (self._admissions[item][0].number, item)
            ):
                admission, enrolment = self._admissions[encoded]
                if (
                    admission.agent in agents
                    or admission.owner in owners
                    or admission.number in numbers
                ):
                    continue
                agents.add(admission.agent)
                owners.add(admission.owner)
                numbers.add(admission.number)
                winners[admission.agent] = (admission, enrolment)
            self._winners = winners
        return self._winners

    # -- what follows ----------------------------------------------------------------------------

    def member(self, agent: bytes) -> Member | None:
        number = self.genesis.number_of(agent)
        if number is not None:
            founder = self.genesis.registrars[number - 1]
            created = self.genesis.created_ms
            return Member(
                agent, founder.owner, number, founder.name, True, agent, created, created,
                self.credential(agent),
            )  # fmt: skip
        found = self._admitted().get(agent)
        if found is None:
            return None
        admission, enrolment = found
        return Member(
            agent, admission.owner, admission.number, enrolment.name, False, admission.registrar,
            enrolment.requested_ms, admission.admitted_ms, self.credential(agent),
        )  # fmt: skip

    def members(self) -> list[Member]:
        """Everyone, by number."""
        agents: Iterable[bytes] = [one.agent for one in self.genesis.registrars]
        found = [self.member(agent) for agent in (*agents, *self._admitted())]
        return sorted((one for one in found if one is not None), key=lambda one: one.number)

    def pending(self, now_ms: int) -> list[Request]:
        """Requests that are neither answered nor older than a week, oldest first.

        Of one agent only the newest, whoever heard it.
        """
        newest: dict[bytes, Request] = {}
        for heard in sorted(self._requests.values(), key=lambda one: one.rank):
            request = heard.request
            agent = request.enrolment.agent
            newest.pop(agent, None)
            if self.member(agent) is None and now_ms < request.heard_ms + REQUEST_LIFE_MS:
                newest[agent] = request
        return list(newest.values())

    def next_number(self) -> int:
        """The lowest that no admission names; one far ahead of all others is no reason to stop."""
        taken = {admission.number for admission, _ in self._admissions.values()}
        return next(n for n in count(len(self.genesis.registrars) + 1) if n not in taken)

    def owner_is_taken(self, owner: bytes) -> bool:
        return any(one.owner == owner for one in self.members())

    def admission(self, agent: bytes) -> Admission | None:
        found = self._admitted().get(agent)
        return found[0] if found else None

    def enrolment(self, agent: bytes) -> Enrolment | None:
        found = self._admitted().get(agent)
        return found[1] if found else self._enrolments.get(agent)

    def credential(self, agent: bytes) -> Credential | None:
        """The agent's newest credential."""
        return self._newest.get(agent)

    def session_key(self, agent: bytes, epoch: int) -> bytes | None:
        sessions = self._sessions.get(agent, {}).get(epoch)
        return sessions[0].session_key if sessions else None


def subject(record: Record) -> bytes:
    """The agent whom an identity record that passed `Roster.check` is about."""
    if record.header.kind == ADMISSION:
        return _admission_body(record)[1].agent
    return _proof_body(record).enrolment.agent


def request_body(proof: Proof) -> bytes:
    """What a sponsor publishes of one that asks; the proof shows no admission."""
    return Proof(proof.enrolment, proof.credential, None).encode()


def admission_body(enrolment: Enrolment, admission: Admission) -> bytes:
    return pack([enrolment.encode(), admission.encode()])


def _admission_body(record: Record) -> tuple[Enrolment, Admission]:
    parts = unpack(_body(record), limit=MAX_HELLO_BYTES)
    require(isinstance(parts, list) and len(parts) == 2, "admission record")
    return Enrolment.decode(parts[0]), Admission.decode(parts[1])


def _proof_body(record: Record) -> Proof:
    return Proof.decode(_body(record))


def _body(record: Record) -> bytes:
    if record.body is None:
        raise Refused("record.body_missing", "An identity record came without its body.")
    return record.body


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
