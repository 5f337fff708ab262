"""What may be done with a post: answer, change, take away, label, react, fetch, copy.

Owns the questions before and the words after; each thing done is one call to the daemon, in a
worker, and a failure says what to do. Which posts there are is the conversation's affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content
from textual.widget import Widget

from permesh.display import clean, clean_line
from permesh.errors import PermeshError
from permesh.schema import Attachment, Judgement, Label, NewReaction, Post

from . import attaching
from .dialogs import Confirm, Reader
from .drafts import Place
from .model import MeshModel
from .ports import Clock, MeshClient
from .post_dialogs import AuthorDialog, LabelDialog, PickFile, ReactDialog, versions_text
from .post_lines import name_of
from .posts import is_whole
from .widgets.post_list import PostList
from .words import cut, size

if TYPE_CHECKING:
    from .drafts import Drafts

MAX_TOLD = 400  # characters of an error
DID_NOT_WORK = "That did not work"

# For the command palette: what, in words, and what it does.
ACTIONS: dict[str, tuple[str, str]] = {
    "reply": ("Reply", "Answer the selected post"),
    "quote": ("Quote", "Quote the selected post in what you write"),
    "thread": ("Thread", "Show the whole thread of the selected post"),
    "react": ("React", "Add a reaction to the selected post, or take it back"),
    "edit": ("Edit", "Change the selected post of yours"),
    "remove": ("Remove", "Take back the selected post of yours"),
    "versions": ("Versions", "What the selected post said before"),
    "label": ("Label", "Hide, spam or pin: a signed word about the selected post"),
    "author": ("Author", "Mute, block, or go by labels of the selected post's author"),
    "fetch": ("Fetch file", "Fetch an attachment of the selected post"),
    "copy": ("Copy text", "Copy the selected post"),
    "copy_id": ("Copy id", "Copy the selected post's id"),
    "unfold": ("Unfold", "Show or fold posts that say nearly the same"),
    "hidden": ("Hidden posts", "Show or leave out what is hidden here, with why"),
}


async def judge(widget: Widget, client: MeshClient, agent: str, name: str) -> bool:
    """Ask how a member is to be treated, and tell the daemon. Raises ``PermeshError``."""

    async def load() -> Judgement | None:
        found = (await client.judgements()).items
        return next((one for one in found if one.who.agent == agent), None)

    dialog = AuthorDialog(name, load)
    if not await widget.app.push_screen_wait(dialog) or dialog.judgement is None:
        return False
    await client.judge(agent, dialog.judgement)
    widget.notify(dialog.said, title=name, markup=False)
    return True


class PostActions(Widget):
    """A mixin of `Conversation`."""

    client: MeshClient
    model: MeshModel
    clock: Clock
    drafts: Drafts

    def find(self, post_id: str) -> Post | None:
        raise NotImplementedError

    def took(self, post: Post) -> None:
        raise NotImplementedError

    def start_writing(self, place: Place) -> None:
        raise NotImplementedError

    def own_place(self) -> Place:
        raise NotImplementedError

    def show_draft(self) -> None:
        raise NotImplementedError

    def do(self, what: str, key: str | None) -> None:
        """Do ``what`` (of `ACTIONS`) with the post ``key``."""
        post = self.find(key or "")
        act: Callable[[Post], object] | None = getattr(self, f"do_{what}", None)
        if what == "compose":
            self.start_writing(self.own_place())
        elif post is not None and act is not None:
            act(post)

    def on_post_list_wanted(self, event: PostList.Wanted) -> None:
        event.stop()
        self.do(event.what, event.key)

    def tell(self, error: PermeshError) -> None:
        said = clean(cut(str(error), MAX_TOLD))
        self.notify(said, title=DID_NOT_WORK, severity="error", markup=False)

    @work(group="action")
    async def carry_out(
        self, call: Callable[[], Awaitable[Post]], said: str = "", *, title: str = ""
    ) -> None:
        try:
            post = await call()
        except PermeshError as error:
            self.tell(error)
            return
        self.took(post)
        if said:
            self.notify(said, title=title, markup=False)

    async def whole(self, post: Post) -> Post:
        """The post with all of its text; lists keep its beginning. Raises ``PermeshError``."""
        return post if is_whole(post) else await self.client.read_post(post.id)

    # Writing

    def do_reply(self, post: Post) -> None:
        self.start_writing(Place(post.room, reply_to=post.id))

    def do_quote(self, post: Post) -> None:
        draft = self.drafts.of(Place(post.room, reply_to=post.id))
        if post.id not in draft.quotes:
            draft.quotes = [*draft.quotes, post.id][:8]
        self.start_writing(draft.place)
        self.show_draft()

    @work(group="action")
    async def do_edit(self, post: Post) -> None:
        try:
            text = (await self.whole(post)).text
        except PermeshError as error:
            self.tell(error)
            return
        draft = self.drafts.of(Place(post.room, edits=post.id))
        if not draft.worth_keeping:
            draft.text = draft.original = text
        self.start_writing(draft.place)

    # Reading

    @work(group="reading", exclusive=True)
    async def read(self, post: Post) -> None:
        """The whole post in a window."""
        try:
            post = await self.whole(post)
        except PermeshError as error:
            self.tell(error)
            return
        self.app.push_screen(Reader(post, self.clock(), self.model.own))

    @work(group="reading", exclusive=True)
    async def do_versions(self, post: Post) -> None:
        try:
            versions = await self.client.versions(post.id)
        except PermeshError as error:
            self.tell(error)
            return
        shown = post.model_copy(update={"text": versions_text(versions.items, self.clock())})
        self.app.push_screen(Reader(shown, self.clock(), self.model.own, title="Versions"))

    @work(group="action")
    async def do_copy(self, post: Post) -> None:
        try:
            text = (await self.whole(post)).text
        except PermeshError as error:
            self.tell(error)
            return
        self.app.copy_to_clipboard(clean(text))
        self.notify("The post is in the clipboard.", markup=False)

    def do_copy_id(self, post: Post) -> None:
        self.app.copy_to_clipboard(clean_line(post.id))
        self.notify("The post's id is in the clipboard.", markup=False)

    # One's own posts

    @work(group="asking", exclusive=True)
    async def do_remove(self, post: Post) -> None:
        lines = Content.assemble(
            f"“{clean_line(cut(' '.join(post.text.split()), 120))}”\n\n",
            "Every member that hears of it drops the text, and the texts of its edits. ",
            ("Who has read it has read it; that it was there stays.", "$foreground 60%"),
        )
        if await self.app.push_screen_wait(Confirm("Remove this post?", lines, "Remove")):

            async def remove() -> Post:
                await self.client.remove(post.id)
                return await self.client.read_post(post.id)

            self.carry_out(remove)

    # Words about others' posts

    @work(group="asking", exclusive=True)
    async def do_react(self, post: Post) -> None:
        dialog = ReactDialog(post.reactions)
        if await self.app.push_screen_wait(dialog) and dialog.emoji:
            mine = any(one.mine and one.emoji == dialog.emoji for one in post.reactions)
            wanted = NewReaction(emoji=dialog.emoji, on=not mine)
            self.carry_out(lambda: self.client.react(post.id, wanted))

    @work(group="asking", exclusive=True)
    async def do_label(self, post: Post) -> None:
        async def load() -> list[Label]:
            return (await self.client.labels(post.id)).items

        about = f"{name_of(post)}: {clean_line(cut(' '.join(post.text.split()), 80))}"
        dialog = LabelDialog(about, self.model.own, load)
        if await self.app.push_screen_wait(dialog) and dialog.label is not None:
            label = dialog.label

            async def put() -> Post:
                await self.client.label_post(post.id, label)
                return await self.client.read_post(post.id)

            done = "labelled" if label.on else "taken back"
            self.carry_out(put, f"{clean_line(label.value)}: {done}.")

    @work(group="asking", exclusive=True)
    async def do_author(self, post: Post) -> None:
        if post.author == self.model.own:
            self.notify("This one is yours.", markup=False)
            return
        name = f"{name_of(post)} {clean_line(post.author_number)}"
        try:
            if await judge(self, self.client, post.author, name):
                self.judged()
        except PermeshError as error:
            self.tell(error)

    def judged(self) -> None:
        """A member is treated otherwise now: what is shown may be different."""

    # Files

    @work(group="asking", exclusive=True)
    async def do_fetch(self, post: Post) -> None:
        files = post.attachments
        if not files:
            return
        if len(files) > 1:
            dialog = PickFile(files)
            if not await self.app.push_screen_wait(dialog) or dialog.picked is None:
                return
            files = [dialog.picked]
        self.save_file(post.id, files[0])

    @work(group="files")
    async def save_file(self, post_id: str, file: Attachment) -> None:
        name, folder = clean_line(cut(file.name, 60)), attaching.downloads()
        told = -1

        def progress(got: int) -> None:
            nonlocal told
            quarter = got * 4 // max(1, file.bytes)
            if quarter > told and got < file.bytes:
                told = quarter
                self.notify(f"{size(got)} of {size(file.bytes)}", title=name, markup=False)

        progress(0)
        try:
            path = await attaching.fetch(self.client, file, folder, progress)
            post = await self.client.read_post(post_id)
        except PermeshError as error:
            self.tell(error)
            return
        self.took(post)
        self.notify(clean_line(str(path)), title="Fetched", markup=False)
