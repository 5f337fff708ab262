"""The posts of one room that are loaded here, and their order as threads.

Owns the bounded window onto a room, and the fold from posts to indented rows. Pure: no network,
no widgets. Whatever a daemon or a member sends, the window holds at most `MAX_POSTS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from permesh.schema import Post, Posts

PAGE = 50  # posts asked for at a time
MAX_POSTS = 400  # held and laid out at once; what is beyond is paged
MAX_DEPTH = 4  # steps of indentation; deeper replies stay there and name whom they answer


@dataclass(frozen=True, slots=True)
class Row:
    """One post in its place. ``answers`` names the post replied to where indentation cannot."""

    post: Post
    depth: int
    answers: str
    opens_thread: bool


class Added(Enum):
    """What became of a live post."""

    SHOWN = "shown"
    KNOWN = "known"
    BEYOND = "beyond"  # not loaded: the window is full, or shows an older part of the room


@dataclass
class PostWindow:
    """The loaded part of a room: newest page first, older pages added in front of it."""

    room: str
    posts: dict[str, Post] = field(default_factory=dict)
    older_cursor: str | None = None
    loaded: bool = False
    newest_dropped: bool = False

    def show_newest(self, page: Posts) -> None:
        """Take the newest page; what was loaded stays if the two meet, and goes otherwise."""
        page_posts = page.items[-MAX_POSTS:]
        meets = not self.newest_dropped and any(post.id in self.posts for post in page_posts)
        if not meets or len(self.posts) + len(page_posts) > MAX_POSTS:
            self.posts.clear()
            self.older_cursor = page.next_cursor
        self.posts.update((post.id, post) for post in page_posts)
        self.loaded, self.newest_dropped = True, False

    def show_older(self, page: Posts) -> None:
        """Add an older page; the newest posts make room when there are too many."""
        self.posts.update((post.id, post) for post in page.items[:MAX_POSTS])
        self.older_cursor = page.next_cursor
        excess = len(self.posts) - MAX_POSTS
        if excess > 0:
            newest = sorted(self.posts.values(), key=_when, reverse=True)[:excess]
            for post in newest:
                del self.posts[post.id]
            self.newest_dropped = True

    def add(self, post: Post) -> Added:
        """Take a live post in, when it belongs to what is shown."""
        if post.id in self.posts:
            return Added.KNOWN
        if not self.loaded or self.newest_dropped:
            return Added.BEYOND
        if len(self.posts) >= MAX_POSTS:
            self.newest_dropped = True
            return Added.BEYOND
        self.posts[post.id] = post
        return Added.SHOWN

    def rows(self) -> list[Row]:
        return as_threads(self.posts.values())


def _when(post: Post) -> tuple[int, str]:
    return post.created_ms, post.id


def as_threads(posts: Iterable[Post]) -> list[Row]:
    """The posts as threads: the thread spoken in last stands last, replies below what they answer.

    A reply to a post that is not among ``posts`` opens a thread of its own.
    """
    by_id = {post.id: post for post in posts}
    replies: dict[str, list[Post]] = {}
    roots: list[Post] = []
    for post in sorted(by_id.values(), key=_when):
        if post.reply_to in by_id:
            replies.setdefault(post.reply_to or "", []).append(post)
        else:
            roots.append(post)
    threads = [_thread(root, replies, by_id) for root in roots]
    threads.sort(key=lambda rows: max(_when(row.post) for row in rows))
    return [row for rows in threads for row in rows]


def _thread(root: Post, replies: dict[str, list[Post]], by_id: dict[str, Post]) -> list[Row]:
    """One thread, depth first, without recursion: a chain of replies may be hundreds long."""
    rows: list[Row] = []
    waiting = [(root, 0)]
    while waiting:
        post, depth = waiting.pop()
        answers = ""
        if depth > MAX_DEPTH:
            answers = by_id[post.reply_to or ""].author_name
        elif depth == 0 and post.reply_to:
            answers = "an earlier post"
        rows.append(Row(post, min(depth, MAX_DEPTH), answers, opens_thread=depth == 0))
        waiting.extend((reply, depth + 1) for reply in reversed(replies.get(post.id, ())))
    return rows
