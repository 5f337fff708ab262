"""Posts with a field to write below them: what a room and a thread have in common.

Owns the way from keys to drafts and posts. What is typed is given to the drafts at once and to the
daemon a moment later; where posts come from is a subclass's affair.
"""

from __future__ import annotations

from collections.abc import Iterator

from textual import work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from permesh.display import clean_line
from permesh.errors import PermeshError
from permesh.schema import Post, Room

from .attaching import Attach
from .drafts import Draft, Drafts, Place
from .model import MeshModel
from .ports import Clock, MeshClient
from .post_actions import PostActions
from .post_lines import name_of
from .widgets.composer import Composer, PostText
from .widgets.post_list import PostList

SAVE_SECONDS = 0.6  # after the last key, what is typed goes to the daemon
SHOWN_OF_ANSWERED = 200  # characters


class Conversation(PostActions, Vertical):
    """``room`` and ``find`` are a subclass's; so are `posts_changed` and `took`."""

    def __init__(
        self, client: MeshClient, model: MeshModel, clock: Clock, drafts: Drafts, *, id: str
    ) -> None:
        super().__init__(id=id)
        self.client = client
        self.model = model
        self.clock = clock
        self.drafts = drafts
        self._draft: Draft | None = None
        self._saving: Timer | None = None
        self._answered: dict[str, Post] = {}  # posts that are answered and not loaded

    def compose(self) -> ComposeResult:
        yield Static(id="room-head", markup=False)
        yield PostList(self.clock, id="posts")
        yield Composer(id="composer")

    # What a subclass says

    @property
    def room(self) -> Room | None:
        """The room that is written to."""
        raise NotImplementedError

    def find(self, post_id: str) -> Post | None:
        """A post that is loaded."""
        raise NotImplementedError

    def took(self, post: Post) -> None:
        """A post was stored, changed or removed by this member: show it."""
        raise NotImplementedError

    # Drafts

    @property
    def draft(self) -> Draft | None:
        return self._draft

    def write_to(self, place: Place | None) -> None:
        """Show the draft of another place."""
        self._draft = None if place is None else self.drafts.of(place)
        self.show_draft()

    def show_draft(self) -> None:
        composer, draft, room = self.query_one(Composer), self._draft, self.room
        composer.display = draft is not None and room is not None
        if draft is None or room is None:
            return
        hint = f"Write to #{clean_line(room.name)} — press c"
        if not room.may_post and room.why_not:
            hint = f"Others would not see it: {clean_line(room.why_not)}"
        composer.show(hint, draft.text, sending=draft.sending)
        place = draft.place
        composer.show_context(
            list(self._context_lines(draft)),
            answers=place.reply_to is not None,
            edits=place.edits is not None,
        )
        composer.may_be_empty = bool(draft.files)
        note = "Sending…" if draft.sending else draft.problem
        composer.note(note, error=bool(draft.problem))

    def _context_lines(self, draft: Draft) -> Iterator[Content]:
        place = draft.place
        for mark, post_id in (("↳ ", place.reply_to), ("✎ editing ", place.edits)):
            if post_id is None:
                continue
            post = self.find(post_id) or self._answered.get(post_id)
            if post is None:
                self._ask_for(post_id)
                yield Content.assemble((mark, "$accent"), (f"post {post_id[:12]}", "bold"))
            else:
                said = clean_line(" ".join(post.text[:SHOWN_OF_ANSWERED].split()))
                yield Content.assemble((mark, "$accent"), (name_of(post), "bold"), f"  {said}")
        for post_id in draft.quotes:
            post = self.find(post_id)
            words = name_of(post) if post else post_id[:12]
            yield Content.assemble(("❝ ", "$accent"), f"quotes {words}")
        for file in draft.files:
            yield Content.assemble(("▤ ", "$accent"), clean_line(file.name))
        others = self.drafts.others(draft)
        if others:
            yield Content.styled(f"✎ {others} more begun in this room", "$foreground 45%")

    @work(group="answered")
    async def _ask_for(self, post_id: str) -> None:
        try:
            self._answered[post_id] = await self.client.read_post(post_id)
        except PermeshError:
            return  # its id is shown
        self.show_draft()

    def on_composer_typed(self, event: Composer.Typed) -> None:
        event.stop()
        # As the field is now: the message may be of the draft that was shown before.
        text = self.query_one(Composer).text
        if self._draft is None or not self.drafts.type(self._draft, text):
            return
        if self._saving is not None:
            self._saving.stop()
        self._saving = self.set_timer(SAVE_SECONDS, self.save_drafts)

    def keep_draft(self) -> None:
        """Take over what the field holds, and save it now."""
        if self._draft is not None and self.is_mounted:
            self.drafts.type(self._draft, self.query_one(Composer).text)
        self.save_drafts()

    def save_drafts(self) -> None:
        if self._saving is not None:
            self._saving.stop()
            self._saving = None
        self.app.run_worker(self.drafts.save(), group="drafts")

    def restored(self) -> None:
        """Drafts came from the daemon, or one of them was found to be posted."""
        self.show_draft()

    # Writing

    def start_writing(self, place: Place) -> None:
        self.keep_draft()
        if self._draft is None or self._draft.place != place:
            self.write_to(place)
        self.query_one(PostText).focus()

    def on_post_text_left(self, event: PostText.Left) -> None:
        event.stop()
        self.keep_draft()
        self.query_one(PostList).focus()

    def on_post_text_reply_dropped(self, event: PostText.ReplyDropped) -> None:
        """A reply becomes a post of its own, below what was begun there; an edit is left as it
        is."""
        event.stop()
        draft, room = self._draft, self.room
        if draft is None or room is None or draft.sending:
            return
        self.keep_draft()
        target = self.drafts.of(self.own_place())
        if draft.place.edits is None and target is not draft and draft.text.strip():
            self.drafts.type(target, "\n\n".join(filter(str.strip, (target.text, draft.text))))
            self.drafts.type(draft, "")
        self.write_to(target.place)
        self.save_drafts()

    def own_place(self) -> Place:
        """Where a text goes that answers no selected post."""
        room = self.room
        return Place(room.id if room else "")

    def on_post_text_attach_wanted(self, event: PostText.AttachWanted) -> None:
        event.stop()
        self.attach_file()

    @work(group="attach", exclusive=True)
    async def attach_file(self) -> None:
        draft = self._draft
        if draft is None or draft.place.edits is not None:
            return
        dialog = Attach(self.client)
        if await self.app.push_screen_wait(dialog) and dialog.file is not None:
            draft.files = [*draft.files, dialog.file][:8]
            self.show_draft()

    def on_composer_send_wanted(self, event: Composer.SendWanted) -> None:
        event.stop()
        draft = self._draft
        if draft is None or draft.sending:
            return
        self.drafts.type(draft, event.text)
        self.drafts.save_in_file()  # until the daemon has confirmed the post
        draft.sending, draft.problem = True, ""
        self.show_draft()
        self._send(draft)

    @work(group="send")
    async def _send(self, draft: Draft) -> None:
        """One post on its way. The draft goes only when the daemon has said that it is stored."""
        post = await self.drafts.send(draft, self.model.own)
        if post is not None:
            await self.drafts.save()
        if not self.is_mounted:
            return
        if post is not None:
            self.posted(draft, post)
        elif draft is self._draft:
            self.show_draft()

    def posted(self, draft: Draft, post: Post) -> None:
        """A text is stored; where nothing else is written, its field is free again."""
        self.took(post)
        if draft is not self._draft:
            return
        self.write_to(self.own_place())
        posts = self.query_one(PostList)
        posts.select(post.id)
        posts.focus()
