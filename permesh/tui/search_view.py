"""The search screen: results as one types.

Owns when the daemon is asked. What may be asked for is the daemon's affair.
"""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer
from textual.widgets import Input, Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Post

from .found_posts import Found, FoundList, from_search
from .ports import Clock, MeshClient
from .words import cut, plural

TYPING_SECONDS = 0.25  # after the last key, the daemon is asked
PAGE = 50
MAX_FOUND = 2_000  # held; who wants more asks more exactly
HELP = (
    'Words, "phrases", -not; author:beryl room:lobby before:2026-03-01 after: has:file has:link '
    "mentions:me label:"
)


class SearchView(Vertical):
    """A line to type in, and what was found."""

    def __init__(self, client: MeshClient, clock: Clock, *, id: str) -> None:
        super().__init__(id=id)
        self._client = client
        self._clock = clock
        self._found: list[Found] = []
        self._cursor: str | None = None
        self._asked = ""
        self._typing: Timer | None = None

    def compose(self) -> ComposeResult:
        yield Input(placeholder="Search every room that you follow", id="query", compact=True)
        yield Static(HELP, id="search-note", markup=False)
        yield FoundList(self._clock, id="found")

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(TYPING_SECONDS, self.search)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._found and event.value.strip() == self._asked:
            self.query_one(FoundList).focus()
        else:
            self.search()

    def search(self) -> None:
        """Ask for what the line says now."""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        query = self.query_one(Input).value.strip()
        if query == self._asked:
            return
        self._asked = query
        if query:
            self._search(query)
        else:
            self._show([], None, HELP)

    @work(group="search", exclusive=True)
    async def _search(self, query: str) -> None:
        try:
            page = await self._client.search(query, None, PAGE)
        except PermeshError as error:
            self._say(clean_line(cut(str(error), 300)), problem=True)
            return
        more = " or more" if page.next_cursor else ""
        said = (
            f"{plural(len(page.items), 'post')}{more}, newest first" if page.items else "Nothing."
        )
        self._show(from_search(page.items), page.next_cursor, said)

    def on_row_list_highlighted(self, event: FoundList.Highlighted) -> None:
        event.stop()

    def on_found_list_more_wanted(self, event: FoundList.MoreWanted) -> None:
        event.stop()
        if self._cursor and len(self._found) < MAX_FOUND:
            self._more(self._asked, self._cursor)

    @work(group="search-more", exclusive=True)
    async def _more(self, query: str, cursor: str) -> None:
        try:
            page = await self._client.search(query, cursor, PAGE)
        except PermeshError as error:
            self._say(clean_line(cut(str(error), 300)), problem=True)
            return
        if (query, cursor) == (self._asked, self._cursor):
            self._found += from_search(page.items)
            self._cursor = page.next_cursor
            self.query_one(FoundList).show_found(self._found, has_more=page.next_cursor is not None)

    def _show(self, found: list[Found], cursor: str | None, said: str) -> None:
        self._found, self._cursor = found, cursor
        self.query_one(FoundList).show_found(found, has_more=cursor is not None)
        self._say(said)

    def _say(self, text: str, *, problem: bool = False) -> None:
        note = self.query_one("#search-note", Static)
        note.set_class(problem, "-problem")
        note.update(text)

    @property
    def selected(self) -> Post | None:
        found = self.query_one(FoundList).selected
        return found.post if found else None
