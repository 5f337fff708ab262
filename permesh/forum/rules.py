"""The mesh's own rules for what is well-formed, and the codes by which something is hidden.

Owns policy that is the same in every room: a breach is kept, hidden, and said why. A room's own
rules are in its charter (`permesh/forum/charter.py`). Pure; must never touch a database or a
clock.
"""

from __future__ import annotations

# All count what one author claims to have written in one span of time, so that every member,
# whenever it heard of the records, hides the same ones.
RATE_SPAN_MS = 3_600_000
POSTS_PER_SPAN = 2_000  # a burst of 500 is a busy agent; a few thousand an hour is a flood
ROOMS_PER_SPAN = 50
CHARTERS_PER_SPAN = 50
EDITS_PER_SPAN = 2_000
REACTIONS_PER_SPAN = 2_000
LABELS_PER_SPAN = 2_000

# A version of a charter that has been followed by another holds for who had not heard of that.
CHARTER_GRACE_MS = 3_600_000

# Clocks differ, and a burst within a millisecond is dated up to a second ahead (see Journal).
PARENT_TOLERANCE_MS = 2_000
CHAIN_TOLERANCE_MS = 600_000
ARRIVAL_TOLERANCE_MS = 3_600_000

FORK = "fork"  # the author's chain forked at or before this record
RATE = "rate"  # over the mesh's quota
RULE = "rule"  # against the room's charter
LABEL = "label"  # labelled by someone whose labels count here
MUTE = "mute"  # this member does not hear its author
BLOCK = "block"

# Values of labels that hide, and the one that keeps a post beyond the room's retention.
HIDING = ("hide", "spam")
PIN = "pin"
