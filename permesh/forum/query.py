"""What a person or an agent may ask of search, read into a few plain parts.

Owns the language of queries. Pure; must never know who is a member, which rooms there are, or
that FTS5 answers: what it gives to FTS5 consists of quoted strings, so nothing that is typed can
be its syntax.

    words "a phrase" prefix* -without one OR other
    author:atlas room:lobby mentions:me has:file has:link thread:POST label:spam
    before:2026-03-01 after:2026-02-01T12:30 after:7d

Everything that is named must hold; OR stands between two that may stand for each other. Dates are
UTC, and 7d is seven days ago; also m, h, w and y.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from permesh.errors import PermeshError

MAX_CHARACTERS = 1_000
# Each costs FTS5 up to ten milliseconds over 100,000 posts, in the worst of orders.
MAX_WORDS = 32
MIN_PREFIX = 2  # shorter ones have no index of their own

_TOKEN = re.compile(
    r'(?P<minus>-?)(?:(?P<field>[A-Za-z]+):)?(?:"(?P<quoted>[^"]*)"?(?P<star>\*?)|(?P<plain>\S+))'
)
_AGO = re.compile(r"(\d{1,5})([mhdwy])")
_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
_FORMS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M")
_LABEL = re.compile(r"[a-z][a-z-]{0,31}")
HAS = ("file", "link")
_INDEXED = ("author", "room", "mentions", "has")
_FIELDS = (*_INDEXED, "before", "after", "thread", "label")


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in a row; with ``prefix`` the last may go on."""

    text: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """``field``: author, room, mentions or has."""

    field: str
    value: str


Part = Phrase | Filter


@dataclass(frozen=True, slots=True)
class Clause:
    """Holds if any of its parts does, or, ``negated``, if its only one does not."""

    parts: tuple[Part, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Times are Unix milliseconds: from ``after_ms`` on, and up to but not with ``before_ms``.
    ``labels`` are values that a post must have (True) or must not have."""

    clauses: tuple[Clause, ...] = ()
    labels: tuple[tuple[str, bool], ...] = ()
    thread: str = ""
    after_ms: int | None = None
    before_ms: int | None = None

    def expression(self, tag: Callable[[Filter], str]) -> str:
        """For FTS5's MATCH over the columns `text` and `tags`; ``tag`` gives a filter's token."""

        def write(part: Part) -> str:
            if isinstance(part, Filter):
                return f"tags : {_quote(tag(part))}"
            return f"text : {_quote(part.text)}" + (" *" if part.prefix else "")

        wanted = [
            "(" + " OR ".join(map(write, clause.parts)) + ")"
            for clause in self.clauses
            if not clause.negated
        ]
        without = [write(clause.parts[0]) for clause in self.clauses if clause.negated]
        # FTS5's NOT takes something away from something, so there is a token that all posts have.
        expression = "(" + " AND ".join(wanted or [f"tags : {_quote(ALL)}"]) + ")"
        if without:
            expression += " NOT (" + " OR ".join(without) + ")"
        return expression


ALL = "all"


def parse(text: str, now_ms: int) -> Query:
    """Raises ``PermeshError("search.query")``, which says what to write instead."""
    if len(text) > MAX_CHARACTERS:
        raise _bad(
            f"A query of {len(text)} characters is over the limit of {MAX_CHARACTERS}.",
            "Ask for fewer words.",
        )
    reader = _Reader(now_ms)
    for match in _TOKEN.finditer(text):
        reader.take(match)
    return reader.finish()


def unknown_filters(text: str) -> str:
    """What was looked for as words and reads like a filter, in one sentence; "" if nothing does.

    The name of a filter has to be followed by what a name or a date begins with: `std::move` and
    `https://…` are words.
    """
    odd = dict.fromkeys(
        match["field"].lower()
        for match in _TOKEN.finditer(text)
        if match["field"]
        and match["field"].lower() not in _FIELDS
        and re.match(r"[\w@#]", match["quoted"] or match["plain"] or "")
    )
    if not odd:
        return ""
    said = ", ".join(f"'{one[:32]}:'" for one in list(odd)[:3])
    known = ", ".join(f"{one}:" for one in _FIELDS)
    return f"{said} {'is no filter' if len(odd) == 1 else 'are no filters'}; they are {known}."


def words(text: str) -> list[str]:
    """Roughly what FTS5's unicode61 makes of a text: runs of letters, marks and digits."""
    plain = "".join(
        one if unicodedata.category(one)[0] in "LNM" or unicodedata.category(one) == "Co" else " "
        for one in text
    )
    return plain.split()


@dataclass
class _Reader:
    now_ms: int
    query: Query = field(default_factory=Query)
    clauses: list[Clause] = field(default_factory=list)
    number: int = 0  # of words and filters
    nothing: bool = False  # something was typed in which there is no letter or digit
    joining: bool = False  # OR was the last
    joinable: bool = False  # what stands before OR, or before a next one, may be joined

    def take(self, match: re.Match[str]) -> None:
        plain = match["plain"] or ""
        named = (match["field"] or (plain[:-1] if plain.endswith(":") else "")).lower()
        if match["plain"] == "OR" and not match["minus"] and not named:
            if not self.joinable or self.joining:
                raise _or_alone()
            self.joining = True
        elif named in _FIELDS:
            self._count(1)
            value = (match["quoted"] or plain) if match["field"] else ""
            self._field(named, value, bool(match["minus"]))
        else:
            self._phrase(match)

    def finish(self) -> Query:
        if self.joining:
            raise _or_alone()
        query = replace(self.query, clauses=tuple(self.clauses))
        if query == Query():
            said = "There is no letter or digit to look for." if self.nothing else "It is empty."
            raise _bad(f"The query cannot be answered: {said}", "Give a word, or author:NAME.")
        return query

    def _phrase(self, match: re.Match[str]) -> None:
        # What only looks like a field, as in https://example.org or std::move, is text.
        begun = f"{match['field']}:" if match["field"] else ""
        text = begun + (match["quoted"] if match["quoted"] is not None else match["plain"])
        found = words(text)
        if not found:
            self.nothing = True
            return
        self._count(len(found))
        prefix = bool(match["star"]) or (match["quoted"] is None and text.endswith("*"))
        if prefix and len(found[-1]) < MIN_PREFIX:
            raise _bad(
                f"'{found[-1]}*' stands for too many words.",
                f"Give {MIN_PREFIX} letters or more before the *.",
            )
        self._clause(Phrase(" ".join(found), prefix), bool(match["minus"]))

    def _field(self, named: str, value: str, minus: bool) -> None:
        if not value or len(value) > 80:
            raise _bad(f"{named}: needs a value of at most 80 characters.", _EXAMPLE[named])
        if named in _INDEXED:
            if named == "has" and value.lower() not in HAS:
                raise _bad(f"has:{value} is not known.", _EXAMPLE["has"])
            self._clause(Filter(named, value.lower() if named == "has" else value), minus)
            return
        if self.joining:
            raise _or_alone()
        self.joinable = False
        query = self.query
        if named == "label":
            if not _LABEL.fullmatch(value):
                raise _bad(f"label:{value} cannot be a label.", _EXAMPLE["label"])
            self.query = replace(query, labels=(*query.labels, (value, not minus)))
            return
        if minus:
            raise _bad(f"-{named}: is not known: {named}: cannot be turned round.", "Drop the '-'.")
        if named == "thread":
            if query.thread not in ("", value):
                raise _bad("A post stands in one thread only.", "Give thread: once.")
            self.query = replace(query, thread=value)
            return
        at = _read_time(named, value, self.now_ms)
        if named == "after":
            self.query = replace(query, after_ms=max(at, query.after_ms or 0))
        else:
            before = at if query.before_ms is None else min(at, query.before_ms)
            self.query = replace(query, before_ms=before)

    def _clause(self, part: Part, negated: bool) -> None:
        if self.joining:
            if negated:
                raise _or_alone()
            self.clauses[-1] = Clause((*self.clauses[-1].parts, part))
        else:
            self.clauses.append(Clause((part,), negated))
        self.joining, self.joinable = False, not negated

    def _count(self, more: int) -> None:
        self.number += more
        if self.number > MAX_WORDS:
            raise _bad(f"A query may have {MAX_WORDS} words.", "Ask for fewer words.")


def _read_time(named: str, value: str, now_ms: int) -> int:
    ago = _AGO.fullmatch(value.lower())
    if ago:
        return max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    for form in _FORMS:
        try:
            at = datetime.strptime(value, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return max(0, int(at.timestamp() * 1000))
    raise _bad(f"{named}:{value} is no date.", _EXAMPLE[named])


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _or_alone() -> PermeshError:
    return _bad(
        "OR joins two words, phrases, author:, room:, mentions: or has:, and nothing else.",
        "Write one OR other, or put a lower-case or in quotation marks to look for the word.",
    )


def _bad(message: str, remedy: str) -> PermeshError:
    return PermeshError("search.query", message, remedy)


_DATE = "Write {0}:2026-03-01, {0}:2026-03-01T12:30 (UTC) or {0}:7d for seven days ago."
_EXAMPLE = {
    "author": "Write author:NAME, a number or an address.",
    "room": "Write room:NAME.",
    "mentions": "Write mentions:me, or a member's name.",
    "has": "Write has:file or has:link.",
    "thread": "Write thread:ID, the id of any post of the thread.",
    "label": "Write label:spam, or another label in lower-case letters.",
    "before": _DATE.format("before"),
    "after": _DATE.format("after"),
}
