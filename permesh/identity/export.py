"""Papers for strangers: JSON that anyone checks offline.

Owns three documents: a genesis, a member's credential, and the proof that a log contradicts itself.
Each carries the exact bytes that were signed, and says in words what they
say; a check makes the words again from the bytes and compares all of them, so no leaf of the
document can be changed without being found. What a document cannot show is what came after it: a
key revoked later, or an ID moved.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from permesh.errors import Refused
from permesh.records import pack

from .card import address, agent_number, human
from .checkpoint import Contradiction
from .credential import Credential
from .genesis import VERSION, Genesis, fields_of, require
from .hello import MAX_HELLO_BYTES, Hello
from .proof import LogProof
from .registry import Seat
from .roster import Roster

GENESIS_TYPE = "permesh-genesis"
CREDENTIAL_TYPE = "permesh-credential"
CONTRADICTION_TYPE = "permesh-contradiction"
DOCUMENT_VERSION = 1
MAX_DOCUMENT_BYTES = 256 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a document that holds says of its bearer."""

    genesis: Genesis
    seat: Seat
    credential: Credential


def genesis_document(genesis: Genesis) -> dict[str, Any]:
    return {
        "type": GENESIS_TYPE,
        "version": DOCUMENT_VERSION,
        "mesh": {"id": genesis.mesh_id.hex(), "name": genesis.name},
        "created_ms": genesis.created_ms,
        "threshold": genesis.threshold,
        "registrars": [
            {
                "number": agent_number(number),
                "name": one.name,
                "agent": address(one.agent),
                "owner": address(one.owner),
                "person": one.person.hex(),
            }
            for number, one in enumerate(genesis.registrars, 1)
        ],
        "encoded": _text(genesis.encode()),
    }


def read_genesis(document: Any) -> Genesis:
    """Raises ``Refused`` unless every leaf is what the bytes say."""
    _require_type(document, GENESIS_TYPE)
    genesis = _decoded(Genesis.decode, document)
    _require_same(document, genesis_document(genesis))
    return genesis


def credential_document(roster: Roster, credential: Credential) -> dict[str, Any]:
    """Raises ``Refused("log.unknown")`` for an agent that is not in the log."""
    proof = LogProof.make(roster.log, credential.agent)
    return _document(roster.genesis, Hello(credential, None, proof))


def check_document(document: Any, genesis: Genesis, now_ms: int) -> Checked:
    """Raises ``Refused`` unless every leaf holds, and the credential does at ``now_ms``."""
    _require_type(document, CREDENTIAL_TYPE)
    shown = _decoded(Hello.decode, document)
    checked = _check(genesis, shown)
    _require_same(document, _document(genesis, shown))
    checked.credential.check_current(now_ms)
    return checked


def contradiction_document(roster: Roster) -> dict[str, Any] | None:
    """The proof that the log contradicts itself, for anyone; None while it does not."""
    found, log = roster.log.contradiction, roster.log
    if found is None:
        return None
    registrars = LogProof.of_registrars(log, found.one.checkpoint.base_size)
    return _contradiction(roster.genesis, found, registrars)


def check_contradiction(document: Any, genesis: Genesis) -> tuple[bytes, ...]:
    """The addresses of the witnesses that signed both ways; raises ``Refused`` unless it proves
    what it claims."""
    _require_type(document, CONTRADICTION_TYPE)
    found, registrars = _decoded(_both, document)
    _require_same(document, _contradiction(genesis, found, registrars))
    return found.both


def _both(data: bytes) -> tuple[Contradiction, LogProof]:
    both, proof = fields_of(data, 2, MAX_HELLO_BYTES, "contradiction")
    require(isinstance(both, bytes), "contradiction")
    return Contradiction.decode(both), LogProof.decode(proof)


def _contradiction(genesis: Genesis, found: Contradiction, registrars: LogProof) -> dict[str, Any]:
    registry = registrars.registry(genesis)
    found.verify(genesis.mesh_id, registry.witnesses, registry.quorum)
    return {
        "type": CONTRADICTION_TYPE,
        "version": DOCUMENT_VERSION,
        "mesh": {"id": genesis.mesh_id.hex(), "name": genesis.name},
        "after_entry": found.one.checkpoint.base_size,
        "ways": [
            {
                "size": one.checkpoint.size,
                "root": one.checkpoint.root.hex(),
                "cosigned_by": [address(witness) for witness, _ in one.signatures],
            }
            for one in (found.one, found.other)
        ],
        "signed_both": [address(one) for one in found.both],
        "encoded": _text(pack([VERSION, found.encode(), registrars.encode()])),
    }


def read_json(data: bytes) -> Any:
    """Raises ``Refused`` for what is no JSON, or too much of it."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Refused(
            "export.too_long",
            f"The file has more than {MAX_DOCUMENT_BYTES} bytes.",
            "Give the file that 'permesh id --export' printed.",
        )
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refused(
            "export.not_json",
            "The file is not JSON.",
            "Give the file as 'permesh id --export' or 'permesh mesh genesis' printed it.",
        ) from error


# -- inside ----------------------------------------------------------------------------------------


def _check(genesis: Genesis, shown: Hello) -> Checked:
    credential = shown.credential
    credential.verify(genesis.mesh_id)
    if shown.proof is None or shown.enrolment is not None:
        raise Refused(
            "export.no_proof",
            "The document does not show that its agent is in the log.",
            "Have it exported again: permesh id --export",
        )
    seat = shown.proof.seat(genesis, credential.agent)
    if seat is None or seat.owner != credential.owner:
        raise Refused(
            "credential.not_admitted",
            "The credential's agent is not in the log of admissions.",
            "Ask which mesh it belongs to, and for that mesh's genesis.",
        )
    if seat.agent != credential.agent or seat.revoked or seat.suspended is not None:
        raise Refused(
            "export.not_served",
            "The log itself says that this key is revoked, left behind or suspended.",
            "Ask its owner for a document of the present key.",
        )
    return Checked(genesis, seat, credential)


def _document(genesis: Genesis, shown: Hello) -> dict[str, Any]:
    checked = _check(genesis, shown)
    seat, credential = checked.seat, checked.credential
    assert shown.proof is not None
    return {
        "type": CREDENTIAL_TYPE,
        "version": DOCUMENT_VERSION,
        "mesh": {"id": genesis.mesh_id.hex(), "name": genesis.name},
        "agent": {
            "number": agent_number(seat.number),
            "name": seat.name,
            "address": address(seat.agent),
            "owner": address(seat.owner),
            "keys": [address(one) for one in seat.keys],
            "person": seat.person.hex(),
            "verifier": seat.verifier,
            "human": human(seat.verifier),
            "approved_by": [address(one) for one in seat.approved_by],
            "admitted_ms": seat.admitted_ms,
        },
        "credential": {
            "epoch": credential.epoch,
            "issued_ms": credential.issued_ms,
            "expires_ms": credential.expires_ms,
            "session_key": credential.session_key.hex(),
            "peer_id": credential.peer_id,
            "runtime": credential.runtime,
            "runtime_hash": credential.runtime_hash.hex(),
            "runtime_is": "claimed by the member itself",
        },
        "log": [
            {
                "size": section.certificate.checkpoint.size,
                "root": section.certificate.checkpoint.root.hex(),
                "cosigned_by": [address(one) for one, _ in section.certificate.signatures],
                "entries": [path.index for path, _ in section.entries],
            }
            for section in shown.proof.sections
        ],
        "encoded": _text(shown.encode()),
    }


def _require_type(document: Any, kind: str) -> None:
    if not isinstance(document, dict) or document.get("type") != kind:
        raise Refused(
            "export.type",
            f"The file is no {kind.removeprefix('permesh-')} of permesh.",
            "'permesh mesh genesis' prints a genesis, 'permesh id --export' a credential.",
        )
    if document.get("version") != DOCUMENT_VERSION or isinstance(document["version"], bool):
        raise Refused(
            "export.version",
            f"This release knows version {DOCUMENT_VERSION} of such files.",
            "Upgrade permesh.",
        )


def _require_same(document: Any, made: dict[str, Any]) -> None:
    wrong = _differing(document, made, "")
    if wrong is not None:
        raise Refused(
            "export.altered",
            f"'{wrong[:80]}' is not what was signed.",
            "Have the file exported again; do not believe this one.",
        )


def _differing(one: Any, other: Any, where: str) -> str | None:
    """The path to the first leaf in which two documents differ."""
    if type(one) is not type(other):
        return where or "the document"
    if isinstance(other, dict):
        for key in sorted({*one, *other}):
            if key not in one or key not in other:
                return f"{where}.{key}".lstrip(".")
            found = _differing(one[key], other[key], f"{where}.{key}")
            if found is not None:
                return found.lstrip(".")
        return None
    if isinstance(other, list):
        if len(one) != len(other):
            return where.lstrip(".")
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            found = _differing(a, b, f"{where}[{index}]")
            if found is not None:
                return found.lstrip(".")
        return None
    return None if one == other else where.lstrip(".")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice would be read in one way here and in another elsewhere."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(decode: Callable[[bytes], _T], document: Any) -> _T:
    """A refusal of the bytes says what a reader of the file can do."""
    try:
        return decode(_bytes(document))
    except Refused as refused:
        remedy = refused.remedy or "Have the file exported again; do not believe this one."
        raise Refused(refused.code, refused.message, remedy) from refused


def _bytes(document: Any) -> bytes:
    text = document.get("encoded")
    try:
        if not isinstance(text, str) or len(text) > 2 * MAX_HELLO_BYTES:
            raise ValueError("no text")
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(
            "export.encoded",
            "'encoded' is not the base64 text of what was signed.",
            "Have the file exported again.",
        ) from error
