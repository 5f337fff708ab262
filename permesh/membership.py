"""This member's place in its mesh: its credential, its renewal, and the door for others.

Owns what this member shows and how it judges what others show (the swarm's gate), when a
credential is renewed, and the way of a request to be let in, at both ends. What a registrar does
is in `registrar.py`. Must never know how streams or records travel.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal

import trio

from .async_store import AsyncStore
from .errors import PermeshError, Refused
from .identity import roster as roster_module
from .identity.credential import Credential
from .identity.enrolment import Enrolment
from .identity.genesis import Genesis
from .identity.hello import (
    Asking,
    Hello,
    OwnersVisit,
    Recognised,
    Verified,
    check_hello,
    check_served,
    decode_shown,
)
from .identity.keys import SEED_BYTES, SessionKey
from .identity.owner import OwnerStatement
from .identity.person import VOUCHED
from .identity.proof import LogProof
from .identity.registry import Seat
from .identity.roster import Roster
from .identity.runtime import runtime_hash, runtime_name
from .p2p.admission import GateVerdict
from .p2p.journal import Journal, Signing
from .records import Record
from .registrar import Registrar
from .remembered import CREDENTIAL_KEY, PROOF_KEY, Secrets, knows_its_chain, read_mesh
from .store import Store
from .verifiers import Verifier

if TYPE_CHECKING:
    from trio_typing import TaskStatus  # what the stubs of trio call it

State = Literal["asking", "pending", "refused", "member"]

# The wall clock jumps when a laptop wakes, so the renewal looks at it rather than sleeping long.
CHECK_SECONDS = 30.0
# Requests that wait to be published; more are turned away until these are.
MAX_ASKING = 64
# A request is published again when the first is this old, so that it does not lapse.
REPUBLISH_MS = roster_module.REQUEST_LIFE_MS // 2

OWNER_HEARD = "owner.heard"  # the verdict on an owner's visit

# Of one registrar's batches, the newest, among which one that is lacking is looked for.
MAX_BATCHES_READ = 1024

_log = logging.getLogger("permesh.membership")


def _letting_in(wish: Enrolment) -> str:
    """What a registrar types; of whom it vouches for, it says whom it has met."""
    who = " --person WHO" if wish.verifier == VOUCHED else ""
    return f"A registrar lets {wish.name} in with: permesh members admit {wish.name}{who}"


class Membership:
    """Implements the swarm's ``Gate``. Open it with `Membership.open`."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        enrolment: Enrolment,
        proof: bytes | None,
        roster: Roster,
        store: AsyncStore,
        secrets: Secrets,
        now_ms: Callable[[], int],
        verifiers: Mapping[str, Verifier],
        may_write: bool,
    ) -> None:
        self.genesis = genesis
        self.enrolment = enrolment
        self.roster = roster
        self.agent = enrolment.agent
        self.peer_id = secrets.peer_id
        self._store = store
        self._secrets = secrets
        self._now_ms = now_ms
        self._credential: Credential
        self._session: SessionKey
        self._journal: Journal | None = None
        self._recognised = Recognised()
        self._asking: dict[bytes, Asking] = {}
        self._owners_say: dict[bytes, OwnerStatement] = {}  # by digest, until published
        # Whoever lost its database, and not its keys, hears first what it wrote before: going on
        # from nothing would fork its chain.
        self._knows_its_chain = may_write
        self._hello: tuple[bytes, int, bytes] | None = None  # log's root, epoch, what is shown
        self._proof: LogProof | None = None  # of our seat, until our own log holds it
        self._shown: Seat | None = None  # what that proof says
        if proof is not None:
            with contextlib.suppress(Refused):  # of a release with other rules: we are shown anew
                self._believe(LogProof.decode(proof))
        self._wake = trio.Event()
        self._again = CHECK_SECONDS  # until the log's ordering is to be looked at
        self.registrar = Registrar(roster, secrets.agent, self._append, verifiers, now_ms)
        # What peers have against us, as they say; nothing of it is proven.
        self._refusals: dict[str, str] = {}
        # And their reason, and what is to be done about it.
        self._others_say: tuple[State, str, str] = (
            "asking",
            "No member has been reached yet.",
            f"Once one is: {_letting_in(enrolment)}",
        )
        self.on_change: Callable[[], None] = lambda: None
        self.on_proof: Callable[[], None] = lambda: None
        self.on_renewed: Callable[[], Awaitable[None]] | None = None

    @classmethod
    async def open(
        cls,
        store: AsyncStore,
        secrets: Secrets,
        now_ms: Callable[[], int],
        verifiers: Callable[[Genesis], Mapping[str, Verifier]],
    ) -> Membership:
        """Read what the home remembers, fold the roster, and hold a current credential.

        Raises ``mesh.none`` if the home belongs to no mesh yet.
        """
        genesis, enrolment = await store.read(read_mesh)
        proof = await store.read(Store.get_value, PROOF_KEY)
        roster = Roster(genesis)
        for record in await store.read(Store.load_identity_records):
            roster.apply(record)
        membership = cls(
            genesis=genesis,
            enrolment=enrolment,
            proof=proof,
            roster=roster,
            store=store,
            secrets=secrets,
            now_ms=now_ms,
            verifiers=verifiers(genesis),
            may_write=await store.read(knows_its_chain, enrolment.agent),
        )
        await membership._take_up_credential()
        return membership

    def attach(self, on_saved: Callable[[Record], None]) -> Journal:
        """The journal that signs with this member's current session key."""
        self._journal = Journal(
            self._store,
            mesh=self.genesis.mesh_id,
            author=self.agent,
            signing=Signing(self._credential.epoch, self._session.sign),
            now_ms=self._now_ms,
            on_saved=on_saved,
            repaired=lambda: self.roster.repaired(self.agent),
        )
        return self._journal

    # -- what this member is -----------------------------------------------------------------

    @property
    def seat(self) -> Seat | None:
        """What the log says of this agent: our own, or what we were shown of it."""
        return self.roster.seat(self.agent) or self._shown

    def _believe(self, proof: LogProof) -> bool:
        """Whether it shows a seat of ours; raises ``Refused`` for one that is not true."""
        seat = proof.seat(self.genesis, self.agent)
        if seat is None:
            return False
        self._proof, self._shown, self._hello = proof, seat, None
        return True

    @property
    def is_member(self) -> bool:
        seat = self.seat
        return seat is not None and seat.agent == self.agent

    @property
    def may_write(self) -> bool:
        """Whether records of this member may be made: it is one, and knows what it wrote."""
        return self.is_member and self._knows_its_chain

    def pulled(self) -> None:
        """A member's records are here, our own of former days among them."""
        if self.is_member and not self._knows_its_chain:
            self._knows_its_chain = True
            self._wake.set()

    @property
    def number(self) -> int | None:
        seat = self.seat
        return seat.number if seat else None

    @property
    def state(self) -> tuple[State, str]:
        """And one sentence: why, and what happens next."""
        if not self.is_member:
            state, why, next_step = self._others_say
            return state, f"{why} {next_step}".rstrip()
        return "member", self._out_of_favour() or " ".join(dict.fromkeys(self._refusals.values()))

    def _out_of_favour(self) -> str:
        """What our own log says against us, which needs nobody's word."""
        seat = self.seat
        try:
            if seat is not None:
                check_served(seat, self._credential, self.roster)
        except Refused as refused:
            return str(refused)
        return ""

    @property
    def credential(self) -> Credential:
        return self._credential

    def sign(self, digest: bytes) -> bytes:
        """With the present session key."""
        return self._session.sign(digest)

    def require_member(self) -> None:
        if not self.is_member:
            _, why, next_step = self._others_say
            raise PermeshError(
                "mesh.not_member",
                f"This agent is not a member of {self.genesis.name} yet. {why}",
                next_step,
                http_status=403,
            )
        if not self._knows_its_chain:
            raise PermeshError(
                "mesh.catching_up",
                "This member has not heard yet what it may have written before.",
                "Try again once another member is connected: permesh status",
                http_status=503,
            )

    # -- the gate ----------------------------------------------------------------------------

    def hello(self) -> bytes:
        log, epoch = self.roster.log, self._credential.epoch
        if self._hello is None or self._hello[:2] != (log.root, epoch):
            if log.registry.seat(self.agent) is not None:
                shown = Hello(self._credential, None, LogProof.make(log, self.agent))
            elif self._proof is not None:
                shown = Hello(self._credential, None, self._proof)
            else:
                shown = Hello(self._credential, self.enrolment, None)
            self._hello = (log.root, epoch, shown.encode())
        return self._hello[2]

    def check(self, peer_id: str, hello: bytes) -> GateVerdict:
        again = self._recognised.check(hello, self.roster, peer_id, self._now_ms())
        if again is not None:
            return GateVerdict("admitted", verified=again, expires_ms=again.expires_ms)
        shown = decode_shown(hello)
        if isinstance(shown, OwnersVisit):
            return self._hear_owner(shown.statement)
        found = check_hello(shown, self.roster, peer_id, self._now_ms())
        if isinstance(found, Asking):
            return self._hear(found)
        if shown.enrolment is None:
            self._recognised.remember(hello, found.credential)
        return self._welcome(shown, found)

    def _welcome(self, shown: Hello, found: Verified) -> GateVerdict:
        known = self.roster.credential(found.agent)
        if known != found.credential:
            self.roster.add(found.credential)
            self.on_proof()
        # One that was just let in may not have heard of it.
        lacking = shown.proof is None and shown.enrolment is not None
        proof = LogProof.make(self.roster.log, found.agent).encode() if lacking else b""
        return GateVerdict("admitted", extra=proof, verified=found, expires_ms=found.expires_ms)

    def _hear(self, asking: Asking) -> GateVerdict:
        """Someone asks to be let in: tell the registrars by a record of our own."""
        if not self.is_member:
            raise Refused(
                "admission.not_member",
                "This peer is not a member itself yet.",
                "Join with an invite of a member.",
            )
        self.roster.log.registry.check_free(asking.enrolment)
        if len(self._asking) >= MAX_ASKING and asking.agent not in self._asking:
            raise Refused(
                "admission.busy",
                "Too many requests wait at this member.",
                "Try again in a few minutes.",
            )
        self._asking[asking.agent] = asking
        self._wake.set()
        return GateVerdict(
            "pending",
            "admission.pending",
            f"The request is with the registrars of {self.genesis.name}.",
            _letting_in(asking.enrolment),
        )

    def _hear_owner(self, said: OwnerStatement) -> GateVerdict:
        """An owner who is no peer of ours has something to say of its agent: the mesh is told."""
        self.check_statement(said)
        if len(self._owners_say) >= MAX_ASKING:
            raise Refused(
                "owner.busy",
                "Too many statements wait at this member.",
                "Try again in a minute, or at another member.",
            )
        self._owners_say[said.digest] = said
        self._wake.set()
        return GateVerdict("pending", OWNER_HEARD, f"{self.genesis.name} is told of it.")

    def check_statement(self, said: OwnerStatement) -> None:
        """Raises ``Refused`` unless this member may tell the mesh of it."""
        if not self.is_member:
            raise Refused(
                "admission.not_member",
                "This peer is not a member itself yet.",
                "Turn to another member.",
            )
        said.verify(self.genesis.mesh_id)
        self.roster.log.registry.check_owner(said)

    async def tell(self, said: OwnerStatement) -> None:
        """Publish an owner's statement; returns when it is durable."""
        self.check_statement(said)
        if not self.roster.knows(said):
            await self._append(roster_module.OWNER, said.encode())
        await self.registrar.settle()

    def refusal(self, verified: Verified) -> Refused | None:
        """Why a peer that was let in is not to be served any more; None if it is."""
        seat = self.roster.seat(verified.agent)
        if seat is None:  # our log does not reach so far: its proof was checked
            return None
        try:
            check_served(seat, verified.credential, self.roster)
        except Refused as refused:
            return refused
        return None

    def on_verdict(self, peer_id: str, verdict: GateVerdict) -> None:
        """What a peer found of us; believed only where a signature says so."""
        before = self.state
        if verdict.extra and not self.is_member:
            if self._believe(LogProof.decode(verdict.extra)):
                self._wake.set()
        elif not verdict.admitted and not self.is_member:
            state: State = "pending" if verdict.status == "pending" else "refused"
            self._others_say = (state, verdict.message, verdict.remedy)
        if verdict.admitted:
            self._refusals.pop(peer_id, None)
        elif verdict.status == "refused" and self.is_member:
            # Not that it is busy or full: what it has against this member itself.
            about_us = verdict.code.startswith(("credential.", "member."))
            if about_us and len(self._refusals) < MAX_ASKING:
                self._refusals[peer_id] = f"A peer refuses this member: {verdict.message}"
            _log.warning("%s refuses this member: %r %r", peer_id, verdict.code, verdict.message)
        if self.state != before:
            self.on_change()

    # -- tasks -------------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish what waits and renew what lapses, until cancelled."""
        await self._settle()
        task_status.started()
        while True:
            with trio.move_on_after(min(CHECK_SECONDS, self._again)):
                await self._wake.wait()
            self._wake = trio.Event()
            try:
                await self._settle()
            except PermeshError as error:  # a full disk passes; a lapse of membership does not
                _log.error("%s", error)

    async def _settle(self) -> None:
        if self._now_ms() >= self._credential.renews_ms:
            await self._renew()
        if not self.is_member:
            return
        if self._proof is not None:
            await self._remember(PROOF_KEY, self._proof.encode())
        if not self._knows_its_chain:
            return
        await self._publish_credential()
        await self._find_wanted()
        while self._asking:
            agent, asking = next(iter(self._asking.items()))
            await self._sponsor(asking)
            self._asking.pop(agent, None)
        while self._owners_say:
            digest, said = next(iter(self._owners_say.items()))
            if not self.roster.knows(said):
                await self._append(roster_module.OWNER, said.encode())
            self._owners_say.pop(digest, None)
        again = await self.registrar.settle()
        self._again = CHECK_SECONDS if again is None else again

    async def _find_wanted(self) -> None:
        """A batch that is certified may be among the records, and not in memory any more."""
        log = self.roster.log
        while (wanted := log.wanted) is not None:
            for author in log.registry.registrars:
                found = await self._store.read(
                    Store.identity_records_of, author, roster_module.BATCH, MAX_BATCHES_READ
                )
                self.roster.offer(found)
            if log.wanted == wanted:
                return  # it is on its way here

    def identity_changed(self) -> None:
        """The roster has taken in records: there may be something to do."""
        self._wake.set()

    async def _sponsor(self, asking: Asking) -> None:
        agent = asking.agent
        now = self._now_ms()
        known = {one.enrolment.agent: one for one in self.roster.pending(now)}.get(agent)
        if self.roster.seat(agent) or (known and known.heard_ms + REPUBLISH_MS > now):
            return
        await self._append(
            roster_module.REQUEST,
            roster_module.request_body(asking.enrolment, asking.credential),
            expires_ms=now + roster_module.REQUEST_LIFE_MS,
        )

    async def _append(
        self, kind: str, body: bytes, *, expires_ms: int = 0, signing: Signing | None = None
    ) -> None:
        if self._journal is None:
            raise RuntimeError("attach() comes first")
        await self._journal.append(kind, body, expires_ms=expires_ms, signing=signing)

    # -- the credential ------------------------------------------------------------------------

    async def _take_up_credential(self) -> None:
        """Go on with the last credential, or make the next one if it does not serve any more."""
        data = await self._store.read(Store.get_value, CREDENTIAL_KEY)
        if data:
            self._credential = Credential.decode(data)
            session = self._secrets.files.load_session(self._credential.epoch)
            if session is not None and self._serves(self._credential, session):
                self._session = session
                return
        await self._renew()

    def _serves(self, credential: Credential, session: SessionKey) -> bool:
        return (
            credential.session_key == session.public
            and credential.agent == self.agent
            and credential.mesh == self.genesis.mesh_id
            and credential.peer_id == self.peer_id
            and credential.runtime_hash == runtime_hash()
            and credential.issued_ms <= self._now_ms() < credential.renews_ms
        )

    async def _renew(self) -> None:
        """Begin the next epoch: key file, then credential, then the record that publishes it."""
        last = await self._store.read(Store.get_value, CREDENTIAL_KEY)
        published = self.roster.credential(self.agent)
        epoch = 1 + max(
            Credential.decode(last).epoch if last else 0, published.epoch if published else 0
        )
        session = self._secrets.files.save_session(epoch, os.urandom(SEED_BYTES))
        credential = await trio.to_thread.run_sync(
            lambda: Credential.make(
                self.genesis.mesh_id,
                self.enrolment.owner,
                self._secrets.agent,
                session_key=session.public,
                peer_id=self.peer_id,
                runtime=runtime_name(),
                runtime_hash=runtime_hash(),
                epoch=epoch,
                issued_ms=self._now_ms(),
            )
        )
        await self._remember(CREDENTIAL_KEY, credential.encode())
        self._credential, self._session = credential, session
        until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(credential.expires_ms / 1000))
        _log.info("epoch %d begins; its credential holds until %s", epoch, until)
        if self._journal is not None:
            if self.is_member:
                await self._publish_credential()
            if self.on_renewed is not None:
                await self.on_renewed()
            self.on_change()

    async def _publish_credential(self) -> None:
        """The first record of an epoch is the credential that its records are checked against."""
        credential = self._credential
        published = self.roster.credential(self.agent)
        if published == credential:
            return
        if published is not None and published.epoch >= credential.epoch:
            await self._renew()  # this epoch was another credential's, before the database was lost
            return
        await self._append(
            roster_module.CREDENTIAL,
            credential.encode(),
            signing=Signing(credential.epoch, self._session.sign),
        )

    async def _remember(self, key: str, value: bytes) -> None:
        if await self._store.read(Store.get_value, key) != value:
            await self._store.write(Store.set_value, key, value)
