"""The app in a real browser: drawn, typed into, closed to whoever lacks the token.

`make browser` installs the browser.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from permesh.config import Home
from permesh.demo import Member, stop, wait_for
from permesh.errors import PermeshError

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SECONDS = 30.0
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip

# The terminal is drawn on a canvas, and textual.js keeps to itself what is on it: `page` is caught
# when textual.js gives it its first addon.
CATCH = """
Object.defineProperty(Object.prototype, "fitAddon", {
  configurable: true,
  set(addon) {
    delete Object.prototype.fitAddon;
    this.fitAddon = addon;
    window.page = this;
  },
});
"""
READ = """
const buffer = window.page?.terminal.buffer.active;
return [...Array(buffer?.length ?? 0).keys()].map(
  (line) => buffer.getLine(line).translateToString(true)
).join("\\n");
"""

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="no chromium and chromedriver: make browser installs them"
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    # With both paths given, Selenium looks for nothing on the internet.
    with Chrome(options=options, service=Service(DRIVER)) as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CATCH})
        yield driver


@pytest.fixture
def hermit(root: Path) -> Iterator[Member]:
    """The one member of a mesh, and its room."""
    member = Member("hermit", Home(root / "hermit"), dict(os.environ))
    try:
        member.run("init", "--name", "hermit")
        member.run("mesh", "create", "cave", "--person", "hermit@example.org")
        member.start()
        member.client.create_room("lobby", "where one talks to oneself")
        member.client.post("lobby", "Is anybody there?")
        yield member
    finally:
        stop([member])


def wait_until_drawn(browser: Chrome, text: str) -> None:
    try:
        wait_for("", SECONDS, lambda: text in browser.execute_script(READ))
    except PermeshError:
        raise AssertionError(f"no '{text}' in\n{browser.execute_script(READ)}") from None


def press(browser: Chrome, keys: str) -> None:
    ActionChains(browser).send_keys(keys).perform()


def status(browser: Chrome) -> int:
    return browser.execute_script(
        "return performance.getEntriesByType('navigation')[0].responseStatus"
    )


def test_a_post_is_written_in_a_browser(hermit: Member, browser: Chrome) -> None:
    server = subprocess.Popen(
        hermit.command("tui", "--web"), env=hermit.environment, stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            page = url.partition("?")[0]
            browser.get(page)
            assert status(browser) == 403
            assert "token" in browser.find_element(By.TAG_NAME, "body").text
            browser.get_log("browser")  # says so too, and is emptied by this

            browser.get(url)
            assert browser.current_url == page
            wait_until_drawn(browser, "# lobby")
            wait_until_drawn(browser, "Is anybody there?")
            press(browser, "c")
            wait_until_drawn(browser, "Send")  # what the keys do now
            press(browser, "Only a browser.")
            wait_until_drawn(browser, "Only a browser.")
            ActionChains(browser).key_down(Keys.CONTROL).send_keys("s").key_up(
                Keys.CONTROL
            ).perform()
            wait_for("the post", SECONDS, lambda: "Only a browser." in posts(hermit))

            loaded = browser.execute_script("return performance.getEntries().map(one => one.name)")
            assert not [name for name in loaded if "://" in name and not name.startswith(page)]
            assert not [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]

            server.send_signal(signal.SIGINT)
            assert server.wait(SECONDS) == 0
            reason = browser.find_element(By.ID, "reason")
            wait_for("the page to say why it ended", SECONDS, lambda: "ended" in reason.text)
        finally:
            server.kill()


def posts(member: Member) -> list[str]:
    return [post.text for post in member.client.posts("lobby").items]
