"""Makes other members' text safe to show in a terminal.

Owns what may reach a terminal: posts, names and purposes are written by others, who could move
the cursor, recolour the screen, forge a line or reverse the reading order with them. Must never
know what the text is for. Nothing is dropped silently: each dangerous character becomes a visible
one, so that a reader sees that something was there.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

# What is replaced, and why:
_DANGEROUS = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f"  # C0 and DEL: escape sequences, carriage return, bell
    "\x80-\x9f"  # C1: one-character forms of the same sequences
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi: text that reads otherwise than it is
    "\u2028\u2029"  # line and paragraph separator: a forged line
    "\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible: hides text in text
    "\U000e0000-\U000e007f"  # tags: a whole invisible alphabet, used to instruct language models
    "\ud800-\udfff"  # lone surrogates: cannot be written at all
    "]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures: ␛ for escape
    return "\u2421" if code == 0x7F else REPLACEMENT


def clean(text: str, keep_newlines: bool = True) -> str:
    """The text with every character that could act on a terminal replaced by a visible one.

    Newlines and tabs stay, unless ``keep_newlines`` is false. Idempotent.
    """
    text = _DANGEROUS.sub(_visible, text)
    return text if keep_newlines else text.replace("\n", "\u240a").replace("\t", " ")


def clean_line(text: str) -> str:
    """For names and other texts that must stay on one line."""
    return clean(text, keep_newlines=False)
