"""The loaded beginning of one thread, in the order in which it is read.

Owns which posts of a thread are here and where a live one goes. Pure. The daemon gives a thread
post by post, each before its replies, so that ten thousand of them need no sorting here; a page
is asked for when the reader comes near the end of what is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from permesh.schema import Post, Posts

from .posts import MAX_DEPTH, Added, Row, fold_alike, slim, toggle_fold

FIRST_PAGE = 60  # posts: more than a screenful, and drawn at once
PAGE = 500
MAX_POSTS = 20_000  # of one thread that are held; what is beyond is said to be left out


@dataclass
class ThreadPages:
    """``posts`` by id in reading order; ``cursor`` goes on after the last one."""

    posts: dict[str, Post] = field(default_factory=dict)
    cursor: str | None = None
    loaded: bool = False
    unfolded: set[str] = field(default_factory=set)

    @property
    def full(self) -> bool:
        return len(self.posts) >= MAX_POSTS

    @property
    def more(self) -> bool:
        return self.cursor is not None and not self.full

    @property
    def root(self) -> str:
        """The id of the thread's first post."""
        return next(iter(self.posts), "")

    def restart(self) -> None:
        self.posts.clear()
        self.cursor, self.loaded = None, False

    def take(self, page: Posts) -> None:
        """Add the page that follows."""
        for post in page.items:
            if len(self.posts) >= MAX_POSTS:
                break
            self.posts[post.id] = slim(post)
        self.cursor, self.loaded = page.next_cursor, True

    def add(self, post: Post) -> Added:
        """A live post: changed in place, or put behind what answers the same post."""
        post = slim(post)
        known = self.posts.get(post.id)
        if known is not None:
            self.posts[post.id] = post
            return Added.KNOWN if known == post else Added.CHANGED
        if self.full or post.reply_to not in self.posts:
            return Added.BEYOND
        ids = list(self.posts)
        parent = self.posts[post.reply_to]
        at = ids.index(parent.id) + 1
        while at < len(ids) and self.posts[ids[at]].depth > parent.depth:
            at += 1
        if at == len(ids) and self.cursor is not None:
            return Added.BEYOND  # it comes with a page
        ids.insert(at, post.id)
        self.posts = {id: post if id == post.id else self.posts[id] for id in ids}
        return Added.SHOWN

    def drop(self, post_id: str) -> None:
        self.posts.pop(post_id, None)

    def toggle_fold(self, post_id: str) -> bool:
        return toggle_fold(self.posts.values(), self.unfolded, post_id)

    def rows(self) -> list[Row]:
        stay, folded, _ = fold_alike(self.posts.values(), self.unfolded)
        top = min((post.depth for post in stay), default=0)
        rows = []
        for post in stay:
            depth = post.depth - top
            answers = ""
            if depth > MAX_DEPTH and post.reply_to in self.posts:
                answers = self.posts[post.reply_to].author_name
            alike = tuple(folded.get(post.id, ()))
            rows.append(Row(post, min(depth, MAX_DEPTH), answers, False, alike))
        return rows
