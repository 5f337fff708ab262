"""Files on their way into a post and out of one.

Owns reading a file for the daemon and writing one into the downloads folder, under a name that
stays in that folder whatever its author called it. Bytes go by in pieces; the daemon checks them.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.file_names import open_beside, safe_name
from permesh.schema import Attachment, NewAttachment

from .dialogs import Dialog
from .ports import MeshClient
from .widgets.key_bar import KeyBar
from .words import size

PIECE = 1 << 16  # bytes read at a time


def downloads() -> Path:
    """Where fetched files go."""
    folder = os.environ.get("XDG_DOWNLOAD_DIR")
    return Path(folder) if folder else Path.home() / "Downloads"


async def fetch(
    client: MeshClient, file: Attachment, folder: Path, progress: Callable[[int], None]
) -> Path:
    """Fetch a file into ``folder``; nothing is left there of one that broke off.

    Raises ``PermeshError``.
    """
    path: Path | None = None
    try:
        async with client.open_file(file.hash) as chunks:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            handle, path = open_beside(folder, safe_name(file.name, file.hash))
            got = 0
            with os.fdopen(handle, "wb") as out:
                async for chunk in chunks:
                    await asyncio.to_thread(out.write, chunk)
                    got += len(chunk)
                    progress(got)
        if got != file.bytes:
            raise PermeshError(
                "attachment.broken",
                f"{got} of {file.bytes} bytes came.",
                "Try again when more members are connected.",
            )
    except OSError as error:
        _discard(path)
        raise PermeshError(
            "attachment.folder",
            f"The file cannot be written to {folder}: {error.strerror or error}.",
            "Free some room, or set XDG_DOWNLOAD_DIR to another folder.",
        ) from error
    except BaseException:
        _discard(path)
        raise
    return path


def _discard(path: Path | None) -> None:
    if path is not None:
        path.unlink(missing_ok=True)


async def pieces(path: Path, progress: Callable[[int], None]) -> AsyncIterator[bytes]:
    """A file's bytes; raises ``OSError``."""
    done = 0
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
            done += len(piece)
            progress(done)


def _typed_path(typed: str) -> Path | None:
    path = Path(typed).expanduser()
    return path if typed and path.is_file() else None


class Attach(Dialog):
    """Asks for a path and gives the file to the daemon; stays open with the reason."""

    def __init__(self, client: MeshClient) -> None:
        super().__init__()
        self._client = client
        self.file: NewAttachment | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("File on this machine", classes="label", markup=False)
            yield Input(placeholder="~/notes.txt", id="path", compact=True)
            yield Static(id="problem", classes="problem", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Attach (enter)", id="attach", variant="primary")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(".dialog").border_title = Content("Attach a file")
        self.query_one("#path", Input).focus()

    def on_input_submitted(self) -> None:
        self._put(self.query_one("#path", Input).value.strip())

    def on_button_pressed(self) -> None:
        self.on_input_submitted()

    @work(group="attach", exclusive=True)
    async def _put(self, typed: str) -> None:
        path = _typed_path(typed)
        if path is None:
            self._say(f"There is no file {typed!r}." if typed else "Name a file.")
            return
        try:
            stored = await self._client.put_file(pieces(path, self._progress))
        except OSError as error:
            self._say(f"It cannot be read: {error.strerror or error}.")
        except PermeshError as error:
            self._say(str(error))
        else:
            kind = mimetypes.guess_type(path.name)[0] or ""
            self.file = NewAttachment(hash=stored.hash, name=path.name[:255], type=kind)
            self.dismiss(True)

    def _progress(self, done: int) -> None:
        self._say(f"{size(done)} so far…")

    def _say(self, text: str) -> None:
        self.query_one("#problem", Static).update(clean_line(text))
