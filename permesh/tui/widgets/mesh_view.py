"""The mesh at a glance: this member, its engine, its peers, and who serves which layers."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Static

from permesh.tui import mesh_text
from permesh.tui.mesh_picture import picture
from permesh.tui.model import MeshModel
from permesh.tui.ports import Clock


class MeshView(VerticalScroll, can_focus=True):
    """Sections in frames: side by side on wide terminals, one below the other on narrow ones."""

    def __init__(self, model: MeshModel, clock: Clock, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._model = model
        self._clock = clock

    def compose(self) -> ComposeResult:
        yield _section("picture", "The mesh from here")
        yield _section("layers", "Layers served")
        with Horizontal(classes="columns"):
            yield _section("peers", "Connected members")
            yield _section("records", "Records")
        with Horizontal(classes="columns"):
            yield _section("this-member", "This member")
            yield _section("engine", "Engine")

    def on_resize(self, _: events.Resize) -> None:
        self.show_mesh()

    def show_mesh(self) -> None:
        status, now_ms = self._model.status, self._clock()
        if status is None:
            return
        dark = self.app.current_theme.dark
        width = max(30, self.scrollable_content_region.width - 6)
        sections = {
            "picture": picture(
                status, self._model.members, self._model.models, width, now_ms, dark
            ),
            "layers": mesh_text.layers_section(self._model.models, width, now_ms, dark),
            "peers": mesh_text.peers_section(status.peers, now_ms, dark),
            "records": mesh_text.records_section(status, now_ms),
            "this-member": mesh_text.member_section(status, now_ms),
            "engine": mesh_text.engine_section(status.engine),
        }
        for name, content in sections.items():
            self.query_one(f"#{name}", Static).update(content)


def _section(id: str, title: str) -> Static:
    section = Static(id=id, classes="section", markup=False)
    section.border_title = title
    return section
