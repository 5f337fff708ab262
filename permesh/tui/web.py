"""The terminal app in a browser on this machine.

Owns how it is served there: on loopback only, to whoever brings the token, with one process of
the app for each open page. Must never know a screen: a page carries keys and drawn bytes.

Textual's own server (textual-serve) draws the terminal in the page and speaks to the process; its
page is not used, as it loads a font from the internet and lets anybody in.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Handler
from textual_serve.download_manager import DownloadManager

from permesh.client import Client
from permesh.config import Home
from permesh.errors import PermeshError

from .web_session import Session

ADDRESS = "127.0.0.1"
MAX_SESSIONS = 4
MAX_WAITING = 4  # pages that wait for another's process to end, as one does that is reloaded
SLOT_SECONDS = 5.0
MAX_MESSAGE = 1 << 20  # bytes of one from the page; what is pasted comes in one
HEARTBEAT_SECONDS = 15.0
CLOSE_SECONDS = 2.0  # for a page to answer that its socket is closed
TOKEN_BYTES = 16

_PAGE = Path(__file__).parent / "page"
_TEXTUAL = Path(str(files("textual_serve"))) / "static"
_FILES = {
    "page.css": _PAGE / "page.css",
    "page.js": _PAGE / "page.js",
    "textual.js": _TEXTUAL / "js/textual.js",
    "xterm.css": _TEXTUAL / "css/xterm.css",
    "RobotoMono.ttf": _TEXTUAL / "fonts/RobotoMono-VariableFont_wght.ttf",
    "RobotoMono-Italic.ttf": _TEXTUAL / "fonts/RobotoMono-Italic-VariableFont_wght.ttf",
}


def serve_web(
    home: Home, port: int, *, open_browser: bool = False, say: Callable[[str], None] = print
) -> None:
    """Serve the app of ``home`` until Ctrl-C; ``port`` 0 takes a free one.

    Raises ``PermeshError`` without a daemon, or if the port cannot be had.
    """
    with Client(home.socket) as client:
        client.status()
    asyncio.run(_serve(home, port, open_browser, say))


async def _serve(home: Home, port: int, open_browser: bool, say: Callable[[str], None]) -> None:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave.set)
    command = [sys.executable, "-m", "permesh", "--home", str(home.root), "tui"]
    async with serving(command, port) as app:
        say(f"permesh is at {app.url}")
        say("Whoever has this address acts as you, from this machine only. Ctrl-C ends it.")
        if open_browser:
            # A browser in the terminal would not return, and must not keep us.
            threading.Thread(target=webbrowser.open, args=(app.url,), daemon=True).start()
        await leave.wait()


@asynccontextmanager
async def serving(command: Sequence[str], port: int = 0) -> AsyncIterator[WebApp]:
    """Serve what ``command`` draws; all its processes have ended when this is left.

    Raises ``PermeshError`` if the port cannot be had.
    """
    with _listen(port) as listener:
        app = WebApp(command, listener.getsockname()[1])
        runner = web.AppRunner(app.routes(), access_log=None, handle_signals=False)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield app
        finally:
            await runner.cleanup()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((ADDRESS, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise PermeshError(
            "web.port_taken" if taken else "web.port_refused",
            f"Port {port} is {'used by another program' if taken else 'not to be had'}.",
            "Choose another with --port, or leave --port out to take a free one.",
        ) from error


class WebApp:
    """The routes, who may use them, and the sessions that are open.

    The token opens the first page, which hands out a cookie with another secret; everything else
    takes the cookie. A page from elsewhere brings its own ``Origin``, and a name that was pointed
    at this machine (DNS rebinding) its own ``Host``: neither is let in.
    """

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.port = port
        self._command = command
        self._token = secrets.token_hex(TOKEN_BYTES)
        self._secret = secrets.token_hex(TOKEN_BYTES)
        self._cookie = f"permesh-{port}"  # browsers keep cookies of all ports in one place
        self._hosts = (f"{ADDRESS}:{port}", f"localhost:{port}")
        self._headers = _security_headers(self._hosts)
        self._downloads = DownloadManager()
        self._open: set[web.WebSocketResponse] = set()
        self._slots = asyncio.Semaphore(MAX_SESSIONS)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.port}/?token={self._token}"

    def routes(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/static/{name}", self._file),
                web.get("/ws", self._socket),
                web.get("/download/{key}", self._download),
            ]
        )
        app.on_response_prepare.append(self._harden)
        app.on_shutdown.append(self._end_sessions)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host not in self._hosts:
            raise web.HTTPForbidden(text="This address is not permesh's.\n")
        if request.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise web.HTTPForbidden(text="Requests from other pages are refused.\n")
        if request.path == "/" and "token" in request.query:
            if not _same(request.query["token"], self._token):
                raise web.HTTPForbidden(text=_NO_TOKEN)
            return self._let_in()
        if not _same(request.cookies.get(self._cookie, ""), self._secret):
            raise web.HTTPForbidden(text=_NO_TOKEN)
        return await handler(request)

    def _let_in(self) -> web.Response:
        """Onwards to the page, so that the token does not stay in the address."""
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(self._cookie, self._secret, httponly=True, samesite="Strict")
        return answer

    async def _harden(self, _: web.Request, answer: web.StreamResponse) -> None:
        for name, value in self._headers.items():
            answer.headers.setdefault(name, value)

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(_PAGE / "index.html")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = _FILES.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return web.FileResponse(path)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._open) >= MAX_SESSIONS + MAX_WAITING:
            raise web.HTTPServiceUnavailable(text="Too many pages are open.\n")
        websocket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_MESSAGE, timeout=CLOSE_SECONDS
        )
        self._open.add(websocket)
        self._idle.clear()
        try:
            await websocket.prepare(request)
            if not await self._take_slot():
                reason = f"{MAX_SESSIONS} pages are open already. Close one of them first."
                await websocket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=reason.encode())
                return websocket
            try:
                width, height = (_number(request.query.get(one)) for one in ("width", "height"))
                await Session(self._command, websocket, self._downloads).play(width, height)
            finally:
                self._slots.release()
        finally:
            self._open.discard(websocket)
            if not self._open:
                self._idle.set()
        return websocket

    async def _take_slot(self) -> bool:
        try:
            async with asyncio.timeout(SLOT_SECONDS):
                return await self._slots.acquire()
        except TimeoutError:
            return False

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """A file that the app hands to its page, as a screenshot is: to keep, never to show."""
        key = request.match_info["key"]
        try:
            about = await self._downloads.get_download_metadata(key)
        except KeyError:
            raise web.HTTPNotFound from None
        answer = web.StreamResponse(
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(about.file_name)}",
            }
        )
        await answer.prepare(request)
        async for chunk in self._downloads.download(key):
            await answer.write(chunk)
        await answer.write_eof()
        return answer

    async def _end_sessions(self, _: web.Application) -> None:
        """And wait for their processes: the runner forgets handlers whose page has gone."""
        reason = b"permesh tui --web was ended."
        await asyncio.gather(
            *(one.close(code=WSCloseCode.GOING_AWAY, message=reason) for one in self._open)
        )
        await self._idle.wait()


_NO_TOKEN = "Open the address that 'permesh tui --web' printed, with its token.\n"


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _number(given: str | None) -> int:
    return int(given) if given and given.isascii() and given.isdecimal() and len(given) < 6 else 80


def _security_headers(hosts: Sequence[str]) -> dict[str, str]:
    """xterm.js writes style elements as it draws; the sockets are named for browsers whose
    ``'self'`` does not cover them."""
    sockets = " ".join(f"ws://{host}" for host in hosts)
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
        f"font-src 'self'; img-src data:; connect-src {sockets}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), clipboard-read=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
