"""What the two sides of a sync say to each other, as bytes.

Owns the messages, their canonical encoding and their limits. Must never know what follows on
which: that is `permesh/p2p/sync.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from permesh.errors import Refused
from permesh.records import MAX_UINT, pack, unpack
from permesh.space_index import HEAD_BYTES, Run
from permesh.spaces import DIGITS, FINGERPRINT_BYTES, MAX_PATH, Content, Part, Sum

from . import limits


@dataclass(frozen=True, slots=True)
class Held:
    """A space as one side has it, from a day on."""

    space: bytes
    from_day: int
    sum: Sum


@dataclass(frozen=True, slots=True)
class Ask:
    """Opens a session: who asks and how long its chain is here, and what it has of each space."""

    author: bytes
    length: int
    spaces: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the answerer has of each space that was asked for, None where it does not hold it.

    ``own`` is the asker's own last record in wire form, if its chain is longer here; ``offers``
    are ephemeral offers that the answerer passes on.
    """

    spaces: tuple[Held | None, ...]
    own: Any
    offers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Heads:
    """Asks for what is newer than the last record that is here of each author.

    An author is named by eight bytes (`head_name`): where two share them, more is listed than
    lacks.
    """

    space: bytes
    from_day: int
    heads: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class Newer:
    """At most ``PAGE_IDS`` ids; ``more`` asks to be asked again with heads that reach them."""

    runs: tuple[Run, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Days:
    """What the asker has of each day, ascending, and asks where the answerer differs between two
    days, both included."""

    space: bytes
    from_day: int
    to_day: int
    days: tuple[tuple[int, Sum], ...]


@dataclass(frozen=True, slots=True)
class Differing:
    """What the answerer has of each day on which the two differ, ascending."""

    days: tuple[tuple[int, Sum], ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """Asks what is in these parts."""

    space: bytes
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in each of the parts that were asked for."""

    contents: tuple[Content, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """Asks for at most ``WANT_IDS`` records. Empty, in answer to `Lack`: nothing more."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Records:
    """Some of the wanted records, in wire form and not looked into; ``left`` wants are open."""

    wires: tuple[Any, ...]
    left: int


@dataclass(frozen=True, slots=True)
class Lack:
    """Tells the answerer what it lacks of a space, so that it may want it."""

    space: bytes
    ids: tuple[bytes, ...]


Message = Ask | Answer | Heads | Newer | Days | Differing | Parts | Contents | Want | Records | Lack


def encode(message: Message) -> bytes:
    match message:
        case Ask(author, length, spaces):
            return pack([1, author, length, [_held(item) for item in spaces]])
        case Answer(spaces, own, offers):
            held = [None if item is None else _held(item) for item in spaces]
            return pack([2, held, own, list(offers)])
        case Heads(space, from_day, heads):
            return pack([3, space, from_day, [list(head) for head in heads]])
        case Newer(runs, more):
            return pack([4, [[run.author, run.last_seq, list(run.ids)] for run in runs], more])
        case Days(space, from_day, to_day, days):
            return pack([5, space, from_day, to_day, [[day, *_sum(item)] for day, item in days]])
        case Differing(days):
            return pack([6, [[day, *_sum(item)] for day, item in days]])
        case Parts(space, parts):
            return pack([7, space, [[part.day, part.path, part.listed] for part in parts]])
        case Contents(contents):
            return pack([8, [_content(item) for item in contents]])
        case Want(ids):
            return pack([9, list(ids)])
        case Records(wires, left):
            return pack([10, list(wires), left])
        case Lack(space, ids):
            return pack([11, space, list(ids)])


def decode(data: bytes) -> Message:
    """Parse and check one message; raises ``Refused``. Records are left in wire form."""
    fields = unpack(data, limit=limits.SYNC_MESSAGE_BYTES)
    _require(isinstance(fields, list) and bool(fields) and type(fields[0]) is int)
    match fields:
        case [1, bytes(author), length, list(spaces)]:
            _require(len(author) == 20 and len(spaces) <= limits.SPACES)
            return Ask(author, _uint(length), tuple(map(_read_held, spaces)))
        case [2, list(spaces), own, list(offers)]:
            _require(len(spaces) <= limits.SPACES and (own is None or isinstance(own, list)))
            held = tuple(None if item is None else _read_held(item) for item in spaces)
            return Answer(held, own, read_offers(offers))
        case [3, bytes(space), from_day, list(heads)]:
            return Heads(_space(space), _uint(from_day), _read_heads(heads))
        case [4, list(runs), bool(more)]:
            return Newer(_read_runs(runs), more)
        case [5, bytes(space), from_day, to_day, list(days)]:
            return Days(_space(space), _uint(from_day), _uint(to_day), _read_days(days))
        case [6, list(days)]:
            return Differing(_read_days(days))
        case [7, bytes(space), list(parts)] if parts:
            _require(len(parts) <= limits.PARTS)
            return Parts(_space(space), tuple(map(_read_part, parts)))
        case [8, list(contents)]:
            return Contents(_read_contents(contents))
        case [9, list(ids)]:
            _require(len(ids) <= limits.WANT_IDS)
            _require(all(isinstance(item, bytes) and len(item) == 32 for item in ids))
            _require(len(set(ids)) == len(ids))
            return Want(tuple(ids))
        case [10, list(wires), left]:
            _require(_uint(left) < limits.WANT_IDS and len(wires) <= limits.WANT_IDS)
            return Records(tuple(wires), left)
        case [11, bytes(space), list(ids)] if ids:
            return Lack(_space(space), _read_ids(ids, limits.PAGE_IDS))
    raise _malformed()


def read_offers(offers: list[Any]) -> tuple[bytes, ...]:
    """Check a list of offers, here and in gossip; raises ``Refused``."""
    _require(len(offers) <= limits.OFFERS)
    _require(all(isinstance(item, bytes) for item in offers))
    _require(all(0 < len(item) <= limits.OFFER_BYTES for item in offers))
    return tuple(offers)


def read_space(value: Any) -> bytes:
    """Check the name of a space, here and in gossip; raises ``Refused``."""
    _require(isinstance(value, bytes))
    return _space(value)


def _space(space: bytes) -> bytes:
    _require(len(space) == 32 or space in (b"\x00", b"\x01"))
    return space


def _uint(value: Any) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_UINT)
    return int(value)


def _held(held: Held) -> list[Any]:
    return [held.space, held.from_day, *_sum(held.sum)]


def _read_held(value: Any) -> Held:
    match value:
        case [bytes(space), from_day, count, fingerprint]:
            return Held(_space(space), _uint(from_day), _read_sum(count, fingerprint))
    raise _malformed()


def _sum(item: Sum) -> list[Any]:
    return [item.count, item.fingerprint]


def _read_sum(count: Any, fingerprint: Any) -> Sum:
    _require(isinstance(fingerprint, bytes) and len(fingerprint) == FINGERPRINT_BYTES)
    return Sum(_uint(count), fingerprint)


def _read_heads(values: list[Any]) -> tuple[tuple[bytes, int], ...]:
    _require(len(values) <= limits.HEADS)
    heads = []
    for value in values:
        match value:
            case [bytes(name), seq] if len(name) == HEAD_BYTES:
                heads.append((name, _uint(seq)))
            case _:
                raise _malformed()
    return tuple(heads)


def _read_runs(values: list[Any]) -> tuple[Run, ...]:
    runs = []
    for value in values:
        match value:
            case [bytes(author), last_seq, list(ids)] if len(author) == 20 and ids:
                _require(all(isinstance(item, bytes) and len(item) == 32 for item in ids))
                runs.append(Run(author, _uint(last_seq), tuple(ids)))
            case _:
                raise _malformed()
    ids = [item for run in runs for item in run.ids]
    _require(len(ids) <= limits.PAGE_IDS and len(set(ids)) == len(ids))
    return tuple(runs)


def _read_days(values: list[Any]) -> tuple[tuple[int, Sum], ...]:
    _require(len(values) <= limits.DAYS)
    days = []
    for value in values:
        match value:
            case [day, count, fingerprint]:
                days.append((_uint(day), _read_sum(count, fingerprint)))
            case _:
                raise _malformed()
    _require(all(first[0] < second[0] for first, second in itertools.pairwise(days)))
    return tuple(days)


def _read_part(value: Any) -> Part:
    match value:
        case [day, str(path), bool(listed)]:
            _require(len(path) <= MAX_PATH and set(path) <= set(DIGITS))
            return Part(_uint(day), path, listed)
    raise _malformed()


def _content(content: Content) -> list[Any]:
    """Sums side by side, sixteen counts and their fingerprints in one string; or ids."""
    sums = [item for item in content if isinstance(item, Sum)]
    if sums:
        return [[item.count for item in sums], b"".join(item.fingerprint for item in sums)]
    return list(content)


def _read_contents(values: list[Any]) -> tuple[Content, ...]:
    _require(len(values) <= limits.PARTS)
    contents: list[Content] = []
    for value in values:
        match value:
            case [list(counts), bytes(fingerprints)]:
                _require(len(counts) == 16 and len(fingerprints) == 16 * FINGERPRINT_BYTES)
                contents.append(
                    tuple(
                        Sum(_uint(count), fingerprints[i * 16 : i * 16 + 16])
                        for i, count in enumerate(counts)
                    )
                )
            case list(ids):
                contents.append(_read_ids(ids, limits.PAGE_IDS))
            case _:
                raise _malformed()
    return tuple(contents)


def _read_ids(ids: list[Any], limit: int) -> tuple[bytes, ...]:
    _require(len(ids) <= limit)
    _require(all(isinstance(item, bytes) and len(item) == 32 for item in ids))
    # Ascending also means that none comes twice.
    _require(all(first < second for first, second in itertools.pairwise(ids)))
    return tuple(ids)


def _require(condition: bool) -> None:
    if not condition:
        raise _malformed()


def _malformed() -> Refused:
    return Refused("sync.malformed", "The peer sent a sync message that is not well formed.")
