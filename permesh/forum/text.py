"""What may stand in a text: the rule for what comes from others, and the care for what is typed.

Owns which characters are refused, which are taken out at the keyboard, and what a reaction's emoji
is. Pure; must never know where the text goes. What comes from others may still hold characters
that mislead a reader, since refusing them would cut off their author's chain: whoever shows a
text makes it safe.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

from permesh.errors import PermeshError

# Normalising sorts the accents on one letter, in quadratic time: 28 s for 100,000 of them.
MAX_MARKS = 64
MAX_EMOJI = 8  # code points: a family of four is seven of them

# Unicode's control characters but for tab and line feed, and lone surrogates.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SEPARATORS = re.compile("\r\n|[\r\u2028\u2029]")
# What is not seen and changes what is: other directions of reading, hidden text in text. The
# joiners U+200C and U+200D stay, which Persian and families of emoji need.
_UNSEEN = re.compile(
    "["
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2064\u206a-\u206f\u3164\ufeff"
    "\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tags, a whole invisible alphabet, and more variants
    "]"
)
# One says how a character is drawn; a row of them is a message that nobody sees.
_VARIANTS = re.compile("([\ufe00-\ufe0f])[\ufe00-\ufe0f]+")

# By ranges and not by categories, so that members with other tables of Unicode agree.
_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u2328\u232b-\u23ff\u24c2\u25a0-\u27bf"
    "\u2900-\u297f\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_TONES = "\U0001f3fb-\U0001f3ff"
_FLAGS = "|".join(
    "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
_ONE = f"(?:\U0001f3f4(?:{_FLAGS})|{_PICTURE}[\ufe0e\ufe0f]?[{_TONES}]?|[0-9#*]\ufe0f?\u20e3)"
_EMOJI = re.compile(f"{_ONE}(?:\u200d?{_ONE})*")


def is_clean(text: str) -> bool:
    """Whether a text from others may be kept."""
    return _FORBIDDEN.search(text) is None


def is_emoji(text: str) -> bool:
    return 0 < len(text) <= MAX_EMOJI and _EMOJI.fullmatch(text) is not None


def clean_text(text: str) -> str:
    """NFC, line ends as \\n; control characters but \\n and \\t, and what is not seen, taken out.

    Raises ``PermeshError("post.text")``.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PermeshError(
            "post.text", "The text is not valid Unicode.", "Send it as UTF-8."
        ) from error
    text = _FORBIDDEN.sub("", _SEPARATORS.sub("\n", text))
    text = _VARIANTS.sub(r"\1", _UNSEEN.sub("", text))
    if unicodedata.is_normalized("NFC", text):
        return text
    runs = (sum(1 for _ in run) for marks, run in groupby(text, _is_mark) if marks)
    if max(runs, default=0) > MAX_MARKS:
        raise PermeshError(
            "post.text",
            f"The text puts more than {MAX_MARKS} accents on one letter.",
            "Take some away.",
        )
    return unicodedata.normalize("NFC", text)


def clean_line(text: str) -> str:
    """As `clean_text`, on one line."""
    return " ".join(clean_text(text).split())


def _is_mark(character: str) -> bool:
    return unicodedata.combining(character) != 0
