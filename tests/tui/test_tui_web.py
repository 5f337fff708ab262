"""The app in a page: who is let in, what a page may do, and that no process outlives it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from click.testing import CliRunner

from permesh.cli import main
from permesh.client import Client
from permesh.config import Home
from permesh.errors import PermeshError
from permesh.tui import web, web_session
from permesh.tui.web import WebApp, serving
from tests.api.fakenode import running

from .stage import played

SECONDS = 20.0
COMMAND = [sys.executable, str(Path(__file__).with_name("page_app.py"))]
PATHS = ("/", "/static/textual.js", "/static/nothing", "/ws", "/download/key", "/nowhere")


class Browser:
    """What a browser's tabs share: its cookies."""

    def __init__(self, app: WebApp, http: aiohttp.ClientSession) -> None:
        self.app = app
        self.http = http
        self.tabs: list[Tab] = []

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.app.port}{path}"

    async def status(self, path: str, **headers: str) -> int:
        async with self.http.get(self.at(path), headers=headers, allow_redirects=False) as answer:
            return answer.status

    async def tab(self, query: str = "?width=90&height=30") -> Tab:
        self.tabs.append(Tab(await self.http.ws_connect(self.at(f"/ws{query}"))))
        return self.tabs[-1]


class Tab:
    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.drawn = ""
        self.told: list[object] = []

    async def until(self, pattern: str) -> re.Match[str]:
        """Read what is drawn until it has ``pattern``."""
        async with asyncio.timeout(SECONDS):
            while (found := re.search(pattern, self.drawn)) is None:
                message = await self.socket.receive()
                if message.type is WSMsgType.BINARY:
                    self.drawn += message.data.decode()
                elif message.type is WSMsgType.TEXT:
                    self.told.append(message.json())
                else:
                    raise AssertionError(f"closed: {message}, after {self.drawn!r}")
        return found

    async def process(self) -> int:
        return int((await self.until(r"process (\d+)"))[1])

    async def type(self, text: str) -> None:
        await self.socket.send_json(["stdin", text])

    async def ended(self) -> tuple[int | None, str]:
        """The code and the reason for which the server closes it."""
        async with asyncio.timeout(SECONDS):
            while (message := await self.socket.receive()).type is not WSMsgType.CLOSE:
                assert message.type is not WSMsgType.CLOSED
        return message.data, message.extra


@asynccontextmanager
async def a_browser(app: WebApp, *, let_in: bool = True) -> AsyncIterator[Browser]:
    jar = aiohttp.CookieJar(unsafe=True)  # takes cookies from an address without a name
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        browser = Browser(app, http)
        if let_in:
            async with http.get(app.url) as answer:
                assert answer.status == 200
        yield browser
        for tab in browser.tabs:
            await tab.socket.close()


@asynccontextmanager
async def opened() -> AsyncIterator[Browser]:
    async with serving(COMMAND) as app, a_browser(app) as browser:
        yield browser


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(*processes: int) -> None:
    async with asyncio.timeout(SECONDS):
        while any(map(lives, processes)):  # noqa: ASYNC110  (other processes set no event)
            await asyncio.sleep(0.01)


@played
async def test_the_token_lets_in_and_leaves_the_address():
    async with serving(COMMAND) as app, a_browser(app, let_in=False) as browser:
        assert re.fullmatch(rf"http://127\.0\.0\.1:{app.port}/\?token=[0-9a-f]{{32}}", app.url)
        async with browser.http.get(app.url) as answer:
            assert str(answer.url) == browser.at("/")
            cookie = answer.history[0].headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert app.url.partition("=")[2] not in cookie
            assert 'class="textual-terminal"' in await answer.text()


@played
async def test_without_token_or_cookie_there_is_nothing():
    async with serving(COMMAND) as app, a_browser(app, let_in=False) as browser:
        for path in (*PATHS, "/?token=", "/?token=" + "0" * 32, "/?token=\u00e9"):
            assert await browser.status(path) == 403, path
        for value in ("", "0" * 32, "\u00e9"):
            cookie = f"permesh-{app.port}={value}"
            assert await browser.status("/", Cookie=cookie) == 403, value
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await browser.tab()
        assert raised.value.status == 403


@played
async def test_other_names_and_other_pages_are_refused():
    async with opened() as browser:
        port = browser.app.port
        for path in PATHS:
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"[::1]:{port}", ""):
                assert await browser.status(path, Host=host) == 403, (path, host)
            for origin in ("http://evil.example", "null", f"http://localhost:{port}", ""):
                assert await browser.status(path, Origin=origin) == 403, (path, origin)
        assert await browser.status(browser.app.url.partition(str(port))[2], Host="a.b") == 403
        assert await browser.status("/", Origin=browser.at("")) == 200
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await browser.http.ws_connect(browser.at("/ws"), origin="http://evil.example")
        async with browser.http.get(browser.app.url.replace("127.0.0.1", "localhost")) as answer:
            assert str(answer.url) == browser.at("/", "localhost")
            assert answer.status == 200


@played
async def test_the_page_has_its_files_from_here_and_nothing_from_elsewhere():
    async with opened() as browser:
        async with browser.http.get(browser.at("/")) as answer:
            page = await answer.text()
        async with browser.http.get(browser.at("/static/page.css")) as answer:
            style = await answer.text()
        asked = re.findall(r'(?:href|src)="(.*?)"', page) + re.findall(r'url\("(.*?)"\)', style)
        assert len(asked) == 7
        for path in set(asked) - {"data:,"}:
            assert await browser.status(path) == 200, path
        for path in ("/static/", "/static/web.py", "/static/..%2Fweb.py", "/static/page%2Fpage.js"):
            assert await browser.status(path) == 404, path


@played
async def test_every_answer_says_what_a_browser_may_do_with_it():
    async with opened() as browser:
        for path, host in (("/", ""), ("/static/page.js", ""), ("/nowhere", ""), ("/", "evil")):
            headers = {"Host": host} if host else {}
            async with browser.http.get(browser.at(path), headers=headers) as answer:
                policy = answer.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "frame-ancestors 'none'" in policy
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-store"


@played
async def test_keys_and_sizes_reach_the_app_and_what_it_draws_the_page():
    async with opened() as browser:
        tab = await browser.tab()
        await tab.until("size 90x30")
        await tab.type("h\u00e9\ud800")
        await tab.until("typed h\u00e9\\?")
        for junk in ("[", "7", "[]", '["resize"]', '["stdin", 1]', '["ping", [1]]', '["?"]'):
            await tab.socket.send_str(junk)
        await tab.socket.send_bytes(b"x")
        await tab.socket.send_json(["resize", {"width": 120, "height": 40}])
        await tab.until("size 120x40")
        await tab.socket.send_json(["resize", {"width": 10**9, "height": -1}])
        await tab.until("size 1000x1\n")
        await tab.socket.send_json(["blur"])
        await tab.socket.send_json(["focus"])
        await tab.socket.send_json(["ping", "7"])
        await tab.until("blur\nfocus")
        assert tab.told == [["pong", "7"]] or await tab.socket.receive_json() == ["pong", "7"]
        for query in ("", "?width=-1&height=99999999", "?width=x&height=\u0663"):
            await (await browser.tab(query)).until(r"size (80|1)x(80|24)")


@played
async def test_each_page_has_its_own_process_and_takes_it_along():
    async with opened() as browser:
        first, second = await browser.tab(), await browser.tab()
        one, other = await first.process(), await second.process()
        assert one != other
        await first.socket.close()
        await gone(one)
        assert lives(other)
        await second.type("still here")
        await second.until("typed still here")


@played
async def test_pages_beyond_the_limit_are_told_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "SLOT_SECONDS", 0.05)
    async with opened() as browser:
        tabs = [await browser.tab() for _ in range(web.MAX_SESSIONS)]
        processes = [await tab.process() for tab in tabs]
        code, reason = await (await browser.tab()).ended()
        assert (code, "Close one" in reason) == (1013, True)

        monkeypatch.setattr(web, "SLOT_SECONDS", SECONDS)
        waiting = [await browser.tab() for _ in range(web.MAX_WAITING)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await browser.tab()
        assert raised.value.status == 503
        await tabs[0].socket.close()  # as a page does that is loaded again
        assert await waiting[0].process() not in processes


@played
async def test_an_app_that_does_not_quit_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web_session, "QUIT_SECONDS", 0.1)
    async with opened() as browser:
        tab = await browser.tab()
        process = await tab.process()
        await tab.type("hang")
        await tab.until("typed hang")
        await tab.socket.close()
        await gone(process)


@played
async def test_the_page_hears_why_it_ended():
    async with opened() as browser:
        for word, code, part in (("leave", 1000, "You left"), ("crash", 1011, "unexpectedly")):
            tab = await browser.tab()
            process = await tab.process()
            await tab.type(word)
            given, reason = await tab.ended()
            assert (given, part in reason) == (code, True), reason
            await gone(process)


@played
async def test_a_program_that_is_no_app_ends_its_page():
    for command in ([sys.executable, "-c", "print('hello')"], ["/nowhere/permesh"]):
        async with serving(command) as app, a_browser(app) as browser:
            code, reason = await (await browser.tab()).ended()
            assert code == 1011
            assert reason


@played
async def test_links_open_in_the_browser_and_scripts_do_not():
    async with opened() as browser:
        tab = await browser.tab()
        for url in ("javascript:alert(1)", "file:///etc/passwd", "https://example.org/a"):
            await tab.type(f"open {url}")
        await tab.until("typed open https")
        assert tab.told == [["open_url", {"url": "https://example.org/a", "new_tab": True}]]


@played
async def test_a_file_from_the_app_is_kept_and_never_shown():
    async with opened() as browser:
        tab = await browser.tab()
        await tab.type("deliver")
        await tab.until("typed deliver")
        assert tab.told == [["deliver_file_start", "key"]]
        async with browser.http.get(browser.at("/download/key")) as answer:
            assert await answer.read() == b"what a screenshot would be"
            assert answer.content_type == "application/octet-stream"
            kept = answer.headers["Content-Disposition"]
            assert kept == "attachment; filename*=UTF-8''a%0D%0A%20b.svg"
        assert await browser.status("/download/key") == 404


@played
async def test_whoever_serves_takes_every_process_along():
    async with AsyncExitStack() as later:  # the browser stays while the server goes
        async with serving(COMMAND) as app:
            browser = await later.enter_async_context(a_browser(app))
            tabs = [await browser.tab() for _ in range(3)]
            processes = [await tab.process() for tab in tabs]
            assert all(map(lives, processes))
            told = [asyncio.create_task(tab.ended()) for tab in tabs]
        assert not any(map(lives, processes))
        for code, reason in await asyncio.gather(*told):
            assert (code, "was ended" in reason) == (1001, True)


def test_a_port_that_is_taken_is_refused_with_a_way_out():
    async def serve(port: int) -> None:
        async with serving(COMMAND, port):
            raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(PermeshError) as raised:
        asyncio.run(serve(other.getsockname()[1]))
    assert raised.value.code == "web.port_taken"
    assert "--port" in raised.value.remedy


def test_wrong_use_is_refused_before_anything_is_served(tmp_path: Path):
    def tui(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, ["--home", str(tmp_path), "tui", *arguments])
        return done.exit_code, done.output

    assert "go with --web" in tui("--port", "80")[1]
    assert "go with --web" in tui("--open")[1]
    assert tui("--web", "--port", "65536")[0] == 2
    code, said = tui("--web")
    assert code == 1
    assert "Start one with: permesh daemon" in said


def test_an_app_ends_with_whoever_serves_it():
    app = subprocess.Popen(
        [sys.executable, "-c", "from textual.app import App; App().run()"],
        env={**os.environ, "TEXTUAL_DRIVER": web_session.DRIVER},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with app:
        try:
            assert app.stdout is not None
            assert app.stdout.readline() == b"__GANGLION__\n"
            app.communicate(timeout=SECONDS)  # its input ends, as if its server was killed
        finally:
            app.kill()


def test_the_real_app_is_served_until_it_is_interrupted():
    root = Path(tempfile.mkdtemp(prefix="pm-"))  # short, as a socket's path has to be
    home = Home(root)
    command = [sys.executable, "-m", "permesh", "--home", str(root), "tui", "--web"]
    try:
        with running(home), Client(home.socket) as client:
            client.create_room("lobby")
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
                try:
                    asyncio.run(look_around(server))
                finally:
                    server.kill()
    finally:
        shutil.rmtree(root)


async def look_around(server: subprocess.Popen[str]) -> None:
    assert server.stdout is not None
    line = await asyncio.to_thread(server.stdout.readline)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with http.get(line.split()[-1]) as answer:
            page = str(answer.url)
        tab = Tab(await http.ws_connect(f"{page}ws?width=90&height=30"))
        await tab.until("lobby")
        children = [child.pid for child in psutil.Process(server.pid).children(recursive=True)]
        assert len(children) == 1
        server.send_signal(signal.SIGINT)
        assert (await tab.ended())[0] == 1001
        assert await asyncio.to_thread(server.wait, SECONDS) == 0
    assert not any(map(lives, children))
