"""How the app draws into a page: as Textual does, and it ends when whoever serves it is gone."""

from __future__ import annotations

from textual import messages
from textual.drivers.web_driver import WebDriver


class PageDriver(WebDriver):
    """Textual's own stays for ever if its server was killed, as no more than its input ends."""

    def run_input_thread(self) -> None:
        super().run_input_thread()
        self._app.post_message(messages.ExitApp())
