"""One page's app: a process of its own, drawn into a websocket.

Owns the process from its start to its end, and what a page may ask of it. Must never know a
screen, nor read what is drawn: the app's bytes go by as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import WSCloseCode, WSMsgType, web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

DRIVER = "permesh.tui.web_driver:PageDriver"
MAX_CELLS = 1_000  # columns or rows of a page
INPUT_SECONDS = 30.0  # in which an app takes what was typed, or it hangs
QUIT_SECONDS = 3.0  # in which it ends by itself
_URLS = ("http://", "https://")


class Session(AppService):
    """The process that ``command`` names, which draws as `web_driver` does."""

    def __init__(
        self, command: Sequence[str], websocket: web.WebSocketResponse, downloads: DownloadManager
    ) -> None:
        super().__init__(
            shlex.join(command),
            write_bytes=websocket.send_bytes,
            write_str=websocket.send_str,
            close=self._left,
            download_manager=downloads,
        )
        self._arguments = command
        self._websocket = websocket

    async def play(self, width: int, height: int) -> None:
        """Run the app until it ends or the page goes; no process is left when this returns."""
        try:
            await self.start(_cells(width), _cells(height))
        except OSError:
            await self._end(WSCloseCode.INTERNAL_ERROR, "The app could not be started.")
            return
        try:
            async for message in self._websocket:
                if message.type is WSMsgType.TEXT:
                    async with asyncio.timeout(INPUT_SECONDS):
                        await self._take(message.data)
        except TimeoutError:
            await self._end(WSCloseCode.INTERNAL_ERROR, "The app hangs, and was ended.")
        except ConnectionResetError:
            pass  # the page went while it was answered
        finally:
            await self.stop()

    async def _take(self, text: str) -> None:
        """What does not make sense is ignored: only a broken page of ours would say it."""
        try:
            envelope = json.loads(text)
        except (ValueError, RecursionError):
            return
        match envelope:
            case ["stdin", str(typed)]:
                await self.send_bytes(typed.encode("utf-8", "replace"))
            case ["resize", {"width": int(width), "height": int(height)}]:
                await self.set_terminal_size(_cells(width), _cells(height))
            case ["ping", str(sent)]:
                await self._websocket.send_json(["pong", sent])
            case ["focus"]:
                await self.focus()
            case ["blur"]:
                await self.blur()

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        return super()._build_environment(width, height) | {"TEXTUAL_DRIVER": DRIVER}

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Without a shell, and away from our terminal, whose Ctrl-C is for us to handle."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._build_environment(width, height),
            start_new_session=True,
        )
        self._stdin = process.stdin
        return process

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            await self._end(WSCloseCode.INTERNAL_ERROR, "The app ended unexpectedly.")

    async def on_meta(self, data: bytes) -> None:
        """What the app asks of the page."""
        asked = json.loads(data)
        if asked["type"] == "open_url" and not str(asked["url"]).startswith(_URLS):
            return  # a javascript: address would run in our page
        await super().on_meta(data)

    async def _left(self) -> None:
        await self._end(WSCloseCode.OK, "You left permesh.")

    async def _end(self, code: WSCloseCode, reason: str) -> None:
        """Close the page's socket, unless it is closed already."""
        await self._websocket.close(code=code, message=reason.encode())

    async def stop(self) -> None:
        """Ask the process to end, and end it if it does not in time."""
        process = self._process
        if process is None:
            return
        self._process = None

        def kill() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        # Not a timeout: `run` takes being cancelled for the end of its process.
        deadline = asyncio.get_running_loop().call_later(QUIT_SECONDS, kill)
        try:
            await super().stop()
            self.stdin.close()
            # What nobody reads any more is read to its end: a full pipe would keep the process.
            await process.communicate()
        finally:
            deadline.cancel()
            if process.returncode is None:
                kill()


def _cells(count: int) -> int:
    return min(max(count, 1), MAX_CELLS)
