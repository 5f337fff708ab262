"""The posts of one room that are loaded here, and their order as threads.

Owns the bounded window onto a room, and the fold from posts to indented rows. Pure: no network,
no widgets. Whatever a daemon or a member sends, the window holds at most `MAX_POSTS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

from permesh.schema import Post, Posts

PAGE = 50  # posts asked for at a time
MAX_POSTS = 400  # held and laid out at once; what is beyond is paged
MAX_DEPTH = 4  # steps of indentation; deeper replies stay there and name whom they answer
KEPT_TEXT = 8_192  # characters of a post that a window holds; its whole text is asked for when read


@dataclass(frozen=True, slots=True)
class Row:
    """One post in its place. ``answers`` names the post replied to where indentation cannot;
    ``folded`` are the posts that say nearly the same and stand in this one's line."""

    post: Post
    depth: int
    answers: str
    opens_thread: bool
    folded: tuple[Post, ...] = ()


class Added(Enum):
    """What became of a live post."""

    SHOWN = "shown"
    CHANGED = "changed"  # edited, removed, reacted to
    KNOWN = "known"
    BEYOND = "beyond"  # not loaded: the window is full, or shows an older part of the room


def slim(post: Post) -> Post:
    """The post with as much of its text as is ever drawn in a list."""
    if len(post.text) <= KEPT_TEXT:
        return post
    return post.model_copy(update={"text": post.text[:KEPT_TEXT]})


def is_whole(post: Post) -> bool:
    """Whether a kept post has all of its text; a list never says that it has when it has not."""
    return len(post.text) < KEPT_TEXT


@dataclass
class PostWindow:
    """The loaded part of a room: newest page first, older pages added in front of it."""

    room: str
    posts: dict[str, Post] = field(default_factory=dict)
    older_cursor: str | None = None
    loaded: bool = False
    newest_dropped: bool = False
    unfolded: set[str] = field(default_factory=set)  # posts whose near-duplicates are shown

    def show_newest(self, page: Posts) -> None:
        """Take the newest page; what was loaded stays if the two meet, and goes otherwise."""
        page_posts = page.items[-MAX_POSTS:]
        meets = not self.newest_dropped and any(post.id in self.posts for post in page_posts)
        if not meets or len(self.posts) + len(page_posts) > MAX_POSTS:
            self.posts.clear()
            self.older_cursor = page.next_cursor
        self.posts.update((post.id, slim(post)) for post in page_posts)
        self.loaded, self.newest_dropped = True, False

    def show_older(self, page: Posts) -> None:
        """Add an older page; the newest posts make room when there are too many."""
        self.posts.update((post.id, slim(post)) for post in page.items[:MAX_POSTS])
        self.older_cursor = page.next_cursor
        excess = len(self.posts) - MAX_POSTS
        if excess > 0:
            newest = sorted(self.posts.values(), key=_when, reverse=True)[:excess]
            for post in newest:
                del self.posts[post.id]
            self.newest_dropped = True

    def add(self, post: Post) -> Added:
        """Take a live post in, when it belongs to what is shown."""
        post = slim(post)
        known = self.posts.get(post.id)
        if known is not None:
            self.posts[post.id] = post
            return Added.KNOWN if known == post else Added.CHANGED
        if not self.loaded or self.newest_dropped:
            return Added.BEYOND
        if len(self.posts) >= MAX_POSTS:
            self.newest_dropped = True
            return Added.BEYOND
        self.posts[post.id] = post
        return Added.SHOWN

    def drop(self, post_id: str) -> None:
        self.posts.pop(post_id, None)

    @property
    def newest(self) -> Post | None:
        """The newest post of the room, if it is loaded."""
        if not self.loaded or self.newest_dropped or not self.posts:
            return None
        return max(self.posts.values(), key=_when)

    def toggle_fold(self, post_id: str) -> bool:
        """Show or hide the near-duplicates of a post; False if there are none."""
        return toggle_fold(self.posts.values(), self.unfolded, post_id)

    def rows(self) -> list[Row]:
        return as_threads(self.posts.values(), self.unfolded)


def _when(post: Post) -> tuple[int, str]:
    return post.created_ms, post.id


def toggle_fold(posts: Iterable[Post], unfolded: set[str], post_id: str) -> bool:
    """Works on the post that others fold into and on each of those."""
    by_id = {post.id: post for post in posts}
    target = by_id[post_id].folded_into if post_id in by_id else ""
    target = target or post_id
    if not any(post.folded_into == target for post in by_id.values()):
        return False
    unfolded.symmetric_difference_update({target})
    return True


def fold_alike(
    posts: Iterable[Post], unfolded: Collection[str]
) -> tuple[list[Post], dict[str, list[Post]], dict[str, str]]:
    """Leave out what folds into another post: (who stays, what folds into each, into which each).

    If the post that it folds into is not here, the earliest of those alike stands for them.
    """
    posts = list(posts)
    present = {post.id for post in posts}
    folded: dict[str, list[Post]] = {}
    into: dict[str, str] = {}
    stands: dict[str, str] = {}
    stay: list[Post] = []
    for post in posts:
        target = post.folded_into
        if not target or target in unfolded or target == post.id:
            stay.append(post)
            continue
        head = target if target in present else stands.setdefault(target, post.id)
        if head == post.id:
            stay.append(post)
        else:
            folded.setdefault(head, []).append(post)
            into[post.id] = head
    return stay, folded, into


def as_threads(posts: Iterable[Post], unfolded: Collection[str] = ()) -> list[Row]:
    """The posts as threads: the thread spoken in last stands last, replies below what they answer.

    A reply to a post that is not among ``posts`` opens a thread of its own.
    """
    ordered, folded, into = fold_alike(sorted(posts, key=_when), unfolded)
    by_id = {post.id: post for post in ordered}
    replies: dict[str, list[Post]] = {}
    roots: list[Post] = []
    for post in ordered:
        above = into.get(post.reply_to or "", post.reply_to)
        if above in by_id and above != post.id:
            replies.setdefault(above or "", []).append(post)
        else:
            roots.append(post)
    threads = [_thread(root, replies, by_id, folded) for root in roots]
    threads.sort(key=lambda rows: max(_when(row.post) for row in rows))
    return [row for rows in threads for row in rows]


def _thread(
    root: Post,
    replies: dict[str, list[Post]],
    by_id: dict[str, Post],
    folded: dict[str, list[Post]],
) -> list[Row]:
    """One thread, depth first, without recursion: a chain of replies may be hundreds long."""
    rows: list[Row] = []
    waiting = [(root, 0)]
    while waiting:
        post, depth = waiting.pop()
        answers = ""
        if depth > MAX_DEPTH and post.reply_to in by_id:
            answers = by_id[post.reply_to].author_name
        elif depth == 0 and post.reply_to:
            answers = "an earlier post"
        alike = tuple(folded.get(post.id, ()))
        rows.append(Row(post, min(depth, MAX_DEPTH), answers, depth == 0, alike))
        waiting.extend((reply, depth + 1) for reply in reversed(replies.get(post.id, ())))
    return rows
