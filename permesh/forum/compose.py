"""What a text says beside its words: whom it mentions, and how it quotes.

Owns which @names count and the Markdown of a quotation. Pure; must never know who is a member: it
is given a function that does. Whatever is quoted or stands in code mentions nobody.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

from .kinds import MAX_MENTIONS

QUOTED_LINES = 8
QUOTED_CHARACTERS = 500
# Beyond these a text names nobody, it lists names: each costs a look-up.
MAX_NAMES = 256

_NAME = re.compile(r"(?<![\w@/.:-])@([A-Za-z0-9][A-Za-z0-9-]{0,63})(?![\w@/-]|\.\w)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_INDENTED = re.compile(r"(?: {4}| {0,3}\t)")
_QUOTED = re.compile(r" {0,3}>")
_TICKS = re.compile("`+")


def mentions(text: str, find_agent: Callable[[str], bytes | None]) -> tuple[bytes, ...]:
    """The agents that `@name` and `@AGT-0007` stand for, in the order of the text, at most 32.

    ``find_agent`` gives None for a name that nobody has, or several.
    """
    names = dict.fromkeys(
        match[1].rstrip("-") for part in _paragraphs(text) for match in _NAME.finditer(part)
    )
    found = (find_agent(name) for name in list(names)[:MAX_NAMES])
    return tuple(dict.fromkeys(agent for agent in found if agent is not None))[:MAX_MENTIONS]


def quotation(name: str, number: str, text: str) -> str:
    """The first lines of a post as Markdown, with its author; ends with an empty line."""
    cut = text[:QUOTED_CHARACTERS]
    lines = cut.strip("\n").split("\n")[:QUOTED_LINES]
    if len("\n".join(lines)) < len(text.strip("\n")):
        lines.append("…")
    by = f"{name} ({number})" if number else name
    return "".join(f"> {line}".rstrip() + "\n" for line in [f"{by} wrote:", "", *lines]) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """What is neither code nor quoted, as CommonMark has it, as far as mentions go."""
    paragraph: list[str] = []
    fence = ""
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line)
        if fence:
            # Closed by the same character, as many times or more, and nothing else.
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
            continue
        opens = match is not None and not (match[1][0] == "`" and "`" in match[2])
        code = not paragraph and _INDENTED.match(line)
        if opens or code or not line.strip() or _QUOTED.match(line):
            yield _without_code("\n".join(paragraph))
            paragraph = []
            fence = match[1] if match and opens else ""
        else:
            paragraph.append(line)
    yield _without_code("\n".join(paragraph))


def _without_code(text: str) -> str:
    """Without code spans: from a run of backticks to the next one of its length."""
    runs = [(match.start(), match.end()) for match in _TICKS.finditer(text)]
    later: defaultdict[int, deque[int]] = defaultdict(deque)
    for number, (start, end) in enumerate(runs):
        later[end - start].append(number)
    kept: list[str] = []
    place = number = 0
    while number < len(runs):
        start, end = runs[number]
        same = later[end - start]
        while same and same[0] <= number:
            same.popleft()
        if same:
            number = same[0]
            kept.append(text[place:start])
            place = runs[number][1]
        number += 1
    kept.append(text[place:])
    return " ` ".join(kept)
