"""What a person or a script gives to a command, checked before the daemon is asked.

Owns the reading of standard input and of files, and the words for what does not fit. Must never
print an answer.
"""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click
from pydantic import BaseModel, ValidationError

from permesh import schema
from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema.forum import HEX

if TYPE_CHECKING:
    from permesh.client import Client

    from .progress import StageBars

# What a draft may hold, and more than a post may, so that the daemon is the one to refuse that.
MAX_STDIN_BYTES = 128 * 1024
PIECE = 64 * 1024  # bytes of a file at a time
PAGE = 500  # what the daemon gives at most

Shape = TypeVar("Shape", bound=BaseModel)
Item = TypeVar("Item", covariant=True)


class Page(Protocol[Item]):
    """Of a list that comes in pages."""

    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def next_cursor(self) -> str | None: ...


def read_stdin() -> str:
    raw = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(raw) > MAX_STDIN_BYTES:
        raise PermeshError(
            "text.too_long",
            f"Standard input has more than {MAX_STDIN_BYTES} bytes (128 KiB).",
            "Shorten it: a post may have 32 KiB.",
        )
    try:
        return raw.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise PermeshError(
            "text.not_utf8",
            "Standard input is not UTF-8 text.",
            "Convert it, for example by iconv.",
        ) from error


def text_of(argument: str) -> str:
    """The argument, or standard input if it is a dash."""
    return read_stdin() if argument == "-" else argument


def checked(shape: type[Shape], **fields: Any) -> Shape:
    """A request's body; raises ``PermeshError`` for what does not fit its shape."""
    try:
        return shape(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first.get("ctx", {}).get("pattern") == HEX:
            raise PermeshError(
                "request.invalid",
                f"'{clean_line(str(first['input']))[:80]}' is no id.",
                "Give at least 4 digits of the id, as permesh read ROOM shows it.",
            ) from error
        raise PermeshError(
            "request.invalid",
            f"'{field}' does not fit: {first['msg']}.",
            "See the command's --help.",
        ) from error


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person; raises ``PermeshError`` where none is there to answer."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise PermeshError("answer.needed", question, "Say so with --yes.")
    click.confirm(question, abort=True, err=True)


def gathered(
    page_of: Callable[[str | None, int], Page[Item]], limit: int
) -> tuple[list[Item], str | None]:
    """The first ``limit`` items of a list, and the cursor of what comes after them."""
    found: list[Item] = []
    cursor: str | None = None
    while True:
        page = page_of(cursor, max(1, min(PAGE, limit - len(found))))
        found += page.items[: limit - len(found)]
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return found, cursor


def put_files(client: Client, paths: Sequence[Path]) -> list[schema.NewAttachment]:
    """Give files to the daemon, each with a bar where a person looks on."""
    from .progress import StageBars

    with StageBars(quiet=not sys.stderr.isatty()) as bars:
        return [_put(client, path, bars) for path in paths]


def _put(client: Client, path: Path, bars: StageBars) -> schema.NewAttachment:
    name = clean_line(path.name)
    try:
        stored = client.put_file(_pieces(path, name, bars))
    except OSError as error:
        raise PermeshError(
            "attachment.unreadable",
            f"'{name}' cannot be read: {error.strerror or error}.",
            "Check its path and its permissions.",
        ) from error
    kind = mimetypes.guess_type(path.name)[0] or ""
    return checked(schema.NewAttachment, hash=stored.hash, name=name[-255:], type=kind)


def _pieces(path: Path, name: str, bars: StageBars) -> Iterator[bytes]:
    with path.open("rb") as file:
        total = path.stat().st_size
        done = 0
        while piece := file.read(PIECE):
            yield piece
            done += len(piece)
            bars.update(name, done, total)
