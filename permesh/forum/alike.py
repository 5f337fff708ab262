"""Posts that say nearly the same, and floods: what may be folded into one line.

Owns the normal form of a text, its fingerprint, and which posts of a sequence fold into which.
Pure; must never decide whether a post is shown: a folded post is one keystroke away.

Two posts of one room within a day are near-duplicates if their fingerprints differ in at most
three of 64 bits: SimHash (Charikar 2002) over words, found by the four 16-bit blocks of which one
must then be equal (Manku, Jain, Das Sarma 2007). Of 3,000 docstrings of Python libraries, one
changed word of 40 to 80 leaves four in five near, and of all pairs seven in a million are near
with less than 70% of their words in common: all of them filled in forms. Short texts have too few
words for that and must be equal in normal form.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

SPAN_MS = 86_400_000
NEAR_BITS = 3
# Below these, a fingerprint says little; and "yes" of two members is two answers.
NEAR_WORDS = 20
SHARED_WORDS = 4
# What is read of a long post: a page of 500 of them costs a tenth of a second.
READ_CHARACTERS = 4_096
READ_WORDS = 256

FLOOD_POSTS = 5
FLOOD_MS = 60_000

_BITS = 64
_BLOCK_BITS = 16
# Who makes fingerprints that share a block without being near costs a page this much, no more.
_MAX_BUCKET = 32

_URL = re.compile(r"\b(?:https?://|www\.)\S+")
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W_]+|[^\w\s]+")


@dataclass(frozen=True, slots=True)
class Line:
    """A post, as far as likeness goes; ``attachments`` are hashes of files."""

    id: bytes
    room: bytes
    author: bytes
    created_ms: int
    text: str
    reply_to: bytes | None = None
    attachments: tuple[str, ...] = ()


def normalise(text: str) -> list[str]:
    """The words of a text: without case, numbers all alike, links all alike."""
    text = _URL.sub(" u ", text[:READ_CHARACTERS].casefold())
    return _WORD.findall(_DIGITS.sub("0", text))[:READ_WORDS]


def fingerprint(words: Sequence[str]) -> int:
    """64 bits; texts that share most of their words, in whatever order, differ in few of them."""
    hashes = b"".join(
        hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest() for word in words
    )
    ones = int.from_bytes(b"\x01" * len(words), "big")
    result = 0
    for place in range(8):
        # The same byte of every hash as one long number: its bits are counted at once.
        column = int.from_bytes(hashes[place::8], "big")
        for bit in range(8):
            if 2 * (column >> bit & ones).bit_count() > len(words):
                result |= 1 << (8 * place + bit)
    return result


def fold(posts: Sequence[Line]) -> dict[bytes, bytes]:
    """Of posts by date, oldest first: each that folds away, with the post into which it folds.

    That post comes before it and folds into none itself. What is not in ``posts`` is not seen, so
    a page folds within itself.
    """
    folded = _floods(posts) | _duplicates(posts)
    return {post: _end(folded, first) for post, first in folded.items()}


def _end(folded: dict[bytes, bytes], post: bytes) -> bytes:
    # What a post folds into may be of a flood that began before, or a duplicate itself.
    while post in folded:
        post = folded[post]
    return post


# -- near-duplicates -----------------------------------------------------------------------------


def _duplicates(posts: Sequence[Line]) -> dict[bytes, bytes]:
    folded: dict[bytes, bytes] = {}
    same: dict[Hashable, Line] = {}
    near: dict[Hashable, deque[tuple[int, Line]]] = {}
    for post in posts:
        words = normalise(post.text)
        if not words:
            continue
        place: Hashable = (post.room, post.attachments)
        if len(words) < SHARED_WORDS:
            place = (place, post.author, post.reply_to)
        key = (place, tuple(words))
        first = same.get(key)
        if first is None or not _in_span(first, post):
            first = None
            if len(words) >= NEAR_WORDS:
                first = _nearest(near, place, fingerprint(words), post)
        if first is None:
            same[key] = post
        else:
            folded[post.id] = first.id
    return folded


def _nearest(
    near: dict[Hashable, deque[tuple[int, Line]]], place: Hashable, bits: int, post: Line
) -> Line | None:
    """The first that ``post`` is near to; without one, it becomes one."""
    buckets = [
        near.setdefault((place, shift, bits >> shift & 2**_BLOCK_BITS - 1), deque())
        for shift in range(0, _BITS, _BLOCK_BITS)
    ]
    for bucket in buckets:
        while bucket and (len(bucket) > _MAX_BUCKET or not _in_span(bucket[0][1], post)):
            bucket.popleft()
        for other, first in bucket:
            if (bits ^ other).bit_count() <= NEAR_BITS:
                return first
    for bucket in buckets:
        bucket.append((bits, post))
    return None


def _in_span(first: Line, post: Line) -> bool:
    return post.created_ms - first.created_ms <= SPAN_MS


# -- floods --------------------------------------------------------------------------------------


def _floods(posts: Sequence[Line]) -> dict[bytes, bytes]:
    """More than five posts of one author in a row within a minute, at one place of the room."""
    folded: dict[bytes, bytes] = {}
    run: list[Line] = []
    inside: set[bytes] = set()  # ids of the run
    for post in posts:
        if not run or not _goes_on(run[0], inside, post):
            run, inside = [], set()
        run.append(post)
        inside.add(post.id)
        last = run[-1 - FLOOD_POSTS :]
        if len(last) > FLOOD_POSTS and post.created_ms - last[0].created_ms <= FLOOD_MS:
            # Of a flood that goes on, all but the newest of these are folded already.
            for one in last[1:]:
                folded.setdefault(one.id, last[0].id)
    return folded


def _goes_on(first: Line, inside: set[bytes], post: Line) -> bool:
    """Whoever answers several others at once floods nothing; who answers itself does."""
    return (post.author, post.room) == (first.author, first.room) and (
        post.reply_to == first.reply_to or post.reply_to in inside
    )
