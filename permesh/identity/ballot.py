"""How the log's witnesses agree on what comes next: Paxos, one decision for each state of the log.

Owns what one witness does about it, a pure function of what it has seen and of the time. Rounds
are attempts at one decision, and each belongs to one witness in turn. Only the owner of a round
proposes in it, a witness signs at most once in a round, and never in one below what it promised.
The first round needs no promises; later ones need those of a quorum, and must propose what the
newest vote among these was for, since that may have been certified already. So any minority of
witnesses may be away, and the order is still one. What a witness that lies can do is make two
certificates: that is a `Contradiction`, and names it. (Lamport, "Paxos Made Simple", 2001.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from permesh.errors import Refused
from permesh.records import pack

from .checkpoint import MAX_CERTIFICATE_BYTES, MAX_ROUND, Checkpoint, Vote
from .entry import Entry
from .genesis import MAX_REGISTRARS, VERSION, check_bytes, fields_of, is_uint, require
from .log import AdmissionLog, Batch

# How long a witness waits for another one's round before it begins its own; those further from the
# turn wait longer, so that they do not outbid each other.
PATIENCE_MS = 4_000
# And twice as long each time, as long as nothing comes of it: a ballot is a record that stays.
MAX_DOUBLINGS = 14
# Of one witness for one decision, far more than the doubling lets an honest one come to.
BALLOTS_PER_WITNESS = 64


@dataclass(frozen=True, slots=True)
class Ballot:
    """The owner of a round asks for promises."""

    base_size: int
    base_root: bytes
    round: int

    def encode(self) -> bytes:
        return pack([VERSION, self.base_size, self.base_root, self.round])

    @classmethod
    def decode(cls, data: bytes) -> Ballot:
        base_size, base_root, attempt = fields_of(data, 3, 128, "ballot")
        require(is_uint(base_size), "ballot's size")
        require(is_uint(attempt) and 0 < attempt <= MAX_ROUND, "ballot's round")
        return cls(base_size, check_bytes(base_root, 32, "base root"), attempt)


@dataclass(frozen=True, slots=True)
class Promise:
    """Not to vote in any round below this one's; with the newest vote so far, if there is one."""

    ballot: Ballot
    voted: Vote | None

    def encode(self) -> bytes:
        voted = self.voted.encode() if self.voted else b""
        return pack([VERSION, self.ballot.encode(), voted])

    @classmethod
    def decode(cls, data: bytes) -> Promise:
        ballot, voted = fields_of(data, 2, MAX_CERTIFICATE_BYTES + 256, "promise")
        require(isinstance(ballot, bytes) and isinstance(voted, bytes), "promise")
        promise = cls(Ballot.decode(ballot), Vote.decode(voted) if voted else None)
        if promise.voted is not None:
            seen, asked = promise.voted.checkpoint, promise.ballot
            require(
                (seen.base_size, seen.base_root) == (asked.base_size, asked.base_root)
                and seen.round < asked.round,
                "promise: its vote",
            )
        return promise


@dataclass(frozen=True, slots=True)
class Propose:
    """Vote for ``checkpoint`` and publish it with its entries as a `Batch`."""

    checkpoint: Checkpoint
    entries: tuple[Entry, ...]
    promises: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class CastVote:
    checkpoint: Checkpoint


Action = Propose | CastVote | Ballot | Promise


class Ordering:
    """One witness's part, over the ``log`` that it folds. ``me`` is its agent's address.

    `due` says what to publish; each action is to be durable, and taken in again by way of
    ``add_*`` here or in the log, before `due` is asked once more.
    """

    def __init__(self, log: AdmissionLog) -> None:
        self._log = log
        self._ballots: dict[tuple[int, bytes], dict[bytes, set[int]]] = {}  # base → author → rounds
        # base → round → witness → (record id, promise)
        self._promises: dict[
            tuple[int, bytes], dict[int, dict[bytes, tuple[bytes, Promise]]]
        ] = {}  # fmt: skip
        # The highest round that each witness promised. Kept for good: a log that contradicts itself
        # may go back to a state that seemed to be left behind.
        self._highest: dict[tuple[int, bytes], dict[bytes, int]] = {}
        self._waiting: tuple[tuple[int, bytes], int, int] | None = None  # base, round, since

    # -- what is seen ------------------------------------------------------------------------

    def add_ballot(self, author: bytes, ballot: Ballot) -> None:
        authors = self._ballots.setdefault((ballot.base_size, ballot.base_root), {})
        rounds = authors.setdefault(author, set())
        if len(rounds) < BALLOTS_PER_WITNESS:
            rounds.add(ballot.round)

    def add_promise(self, author: bytes, record: bytes, promise: Promise) -> None:
        ballot = promise.ballot
        rounds = self._promises.setdefault((ballot.base_size, ballot.base_root), {})
        if sum(author in by for by in rounds.values()) < BALLOTS_PER_WITNESS * MAX_REGISTRARS:
            rounds.setdefault(ballot.round, {}).setdefault(author, (record, promise))
        highest = self._highest.setdefault((ballot.base_size, ballot.base_root), {})
        highest[author] = max(ballot.round, highest.get(author, 0))

    # -- what to do --------------------------------------------------------------------------

    def due(self, me: bytes, ready: Iterable[Entry], now_ms: int) -> list[Action]:
        """``ready`` are entries that may be appended, in the order in which they are wanted."""
        log = self._log
        self._forget()
        if log.contradiction is not None or not log.registry.may_decide(me):
            self._waiting = None
            return []
        votes = {c.round: c for c, by in log.votes().items() if me in by}
        floor = max([*votes, self._promised(me)], default=0)
        for author, batch in log.candidates():
            if self._acceptable(author, batch, votes, floor):
                return [CastVote(batch.checkpoint)]
        asked = self._asked(floor, votes)
        if asked is not None:
            newest = votes[max(votes)] if votes else None
            voted = Vote(newest, me, log.votes()[newest][me]) if newest else None
            return [Promise(asked, voted)]
        entries = log.plan(ready)
        if not entries and not log.candidates():
            self._waiting = None
            return []
        return self._propose(me, entries, votes, floor) or self._lose_patience(me, floor, now_ms)

    def wait_ms(self, me: bytes, now_ms: int) -> int | None:
        """How long until `due` should be asked again; None if nothing is under way."""
        if self._waiting is None:
            return None
        return max(0, self._waiting[2] + self._patience(me, self._waiting[1]) - now_ms)

    # -- inside ------------------------------------------------------------------------------

    @property
    def _here(self) -> tuple[int, bytes]:
        return self._log.size, self._log.root

    def _forget(self) -> None:
        size = self._log.size
        for table in (self._ballots, self._promises):
            for base in [one for one in table if one[0] < size]:
                del table[base]

    def _promised(self, me: bytes) -> int:
        return self._highest.get(self._here, {}).get(me, 0)

    def _acceptable(
        self, author: bytes, batch: Batch, votes: dict[int, Checkpoint], floor: int
    ) -> bool:
        checkpoint = batch.checkpoint
        attempt = checkpoint.round
        if attempt < floor or attempt in votes or author != self._log.owner_of(attempt):
            return False
        if attempt > 0 and not self._allowed(batch):
            return False
        return self._leads(batch)

    def _allowed(self, batch: Batch) -> bool:
        """Whether the promises that a batch names are those of a quorum, and allow it."""
        known = self._promises.get(self._here, {}).get(batch.checkpoint.round, {})
        cited = {
            witness: promise
            for witness, (record, promise) in known.items()
            if record in batch.promises and self._log.registry.may_decide(witness)
        }
        if len(cited) < self._log.registry.quorum:
            return False
        bound = self._bound_by(cited, batch.checkpoint.round)
        checkpoint = batch.checkpoint
        return bound is None or (bound.size, bound.root) == (checkpoint.size, checkpoint.root)

    def _bound_by(self, promises: dict[bytes, Promise], attempt: int) -> Checkpoint | None:
        """What may have been certified below round ``attempt``, as far as these promises allow.

        A vote counts whether its witness showed it or hid it. What too few can have voted for, even
        if all that are silent did, and less than a third of all besides, who hide it, cannot have
        been certified; nor can what breaks the log's rules.
        """
        log, witnesses = self._log, self._log.registry.witnesses
        silent = set(witnesses) - set(promises)
        needed = log.registry.quorum - (len(witnesses) - 1) // 3
        # By what they lead to, whatever the round: a promise shows only the newest vote of several.
        voters: dict[tuple[int, bytes], set[bytes]] = {}
        newest: dict[tuple[int, bytes], Checkpoint] = {}
        seen = [(one, who) for one, by in log.votes().items() for who in by]
        seen += [(one.voted.checkpoint, who) for who, one in promises.items() if one.voted]
        for checkpoint, who in seen:
            if checkpoint.round < attempt:
                way = (checkpoint.size, checkpoint.root)
                voters.setdefault(way, set()).add(who)
                if way not in newest or newest[way].round < checkpoint.round:
                    newest[way] = checkpoint
        for checkpoint in sorted(newest.values(), key=lambda one: (-one.round, one.root)):
            able = (voters[checkpoint.size, checkpoint.root] & set(promises)) | silent
            if len(able) >= needed and not self._false(checkpoint):
                return checkpoint
        return None

    def _false(self, checkpoint: Checkpoint) -> bool:
        """Whether a batch here claims that checkpoint, and does not lead to it."""
        claimed = [batch for _, batch in self._log.candidates() if batch.checkpoint == checkpoint]
        return bool(claimed) and not any(self._leads(batch) for batch in claimed)

    def _leads(self, batch: Batch) -> bool:
        try:
            made = self._log.checkpoint(batch.entries, batch.checkpoint.round)
        except Refused:
            return False
        return made == batch.checkpoint

    def _asked(self, floor: int, votes: dict[int, Checkpoint]) -> Ballot | None:
        """The newest ballot that asks for more than was promised, by the round's own owner."""
        attempt = self._newest_ballot()
        if attempt <= max(floor, *votes, 0):
            return None
        return Ballot(*self._here, attempt)

    def _newest_ballot(self) -> int:
        """The highest round that was asked for in turn; 0 if none.

        Each owner outbids the last by at most one turn of all, so that nobody can ask for a round
        that leaves none to the others.
        """
        turn = len(self._log.registry.registrars)
        asked = sorted(
            attempt
            for author, rounds in self._ballots.get(self._here, {}).items()
            for attempt in rounds
            if author == self._log.owner_of(attempt)
        )
        newest = 0
        for attempt in asked:
            if attempt > newest + turn:
                break
            newest = attempt
        return newest

    def _propose(
        self, me: bytes, entries: list[Entry], votes: dict[int, Checkpoint], floor: int
    ) -> list[Action]:
        """In the first round, if it is this witness's, or in its own that was promised to it."""
        log = self._log
        if floor in votes or log.owner_of(floor) != me:
            return []
        if floor == 0:
            if not entries:
                return []
            return [Propose(log.checkpoint(entries, 0), tuple(entries), ())]
        promised = {
            witness: one
            for witness, one in self._promises.get(self._here, {}).get(floor, {}).items()
            if log.registry.may_decide(witness)
        }
        if len(promised) < log.registry.quorum:
            return []
        cited = tuple(sorted(record for record, _ in promised.values()))
        bound = self._bound_by({who: promise for who, (_, promise) in promised.items()}, floor)
        if bound is not None:
            for _, batch in log.candidates():
                way = (batch.checkpoint.size, batch.checkpoint.root)
                if way == (bound.size, bound.root) and self._leads(batch):
                    again = log.checkpoint(batch.entries, floor)
                    return [Propose(again, batch.entries, cited)]
            return []  # its batch, or another promise, is on its way here
        if not entries:
            return []
        return [Propose(log.checkpoint(entries, floor), tuple(entries), cited)]

    def _lose_patience(self, me: bytes, floor: int, now_ms: int) -> list[Action]:
        log = self._log
        attempt = max(floor, self._newest_ballot())
        if self._waiting is None or self._waiting[:2] != (self._here, attempt):
            self._waiting = (self._here, attempt, now_ms)
        asked = self._ballots.get(self._here, {}).get(me, ())
        attempt = max([attempt, *asked])  # it may have voted by promises alone, and outbid itself
        if (attempt > 0 and log.owner_of(attempt) == me) or len(asked) >= BALLOTS_PER_WITNESS:
            self._waiting = None
            return []  # it stands; those who were away will answer it
        if now_ms < self._waiting[2] + self._patience(me, attempt):
            return []
        turns = range(attempt + 1, attempt + 1 + len(log.registry.registrars))
        return [Ballot(*self._here, next(one for one in turns if log.owner_of(one) == me))]

    def _patience(self, me: bytes, attempt: int) -> int:
        """Longer for those whose turn is further away, and with every ballot of one's own."""
        registrars = self._log.registry.registrars
        if me not in registrars:
            return PATIENCE_MS
        distance = (registrars.index(me) - attempt - 1) % len(registrars)
        mine = len(self._ballots.get(self._here, {}).get(me, ()))
        return (PATIENCE_MS * (1 + distance)) << min(mine, MAX_DOUBLINGS)
