"""What signed statements share: their size, and the check of a wallet's signature.

Owns the memory of signatures that were checked, so that a statement that comes again costs little.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from permesh.errors import Refused

from .genesis import fields_of, require
from .wallet import TypedMessage, recover

MAX_STATEMENT_BYTES = 2048
# Members' clocks differ; more than this is a clock to be set, and is said so.
SKEW_MS = 10 * 60_000
# One entry is ~1.6 KB: of a mesh of ten thousand, the newest third.
_REMEMBERED_SIGNATURES = 8_192

_recover = lru_cache(maxsize=_REMEMBERED_SIGNATURES)(recover)


def check_signed(
    message: TypedMessage, signature: bytes, signer: bytes, code: str, who: str
) -> None:
    """Raise ``Refused(code)`` unless ``signer`` (20 bytes) signed; ``who`` says what it is."""
    try:
        right = _recover(message, signature) == signer
    except Refused:
        right = False
    if not right:
        raise Refused(
            code,
            f"The signature is not that of the {who} it names.",
            "What was signed has been altered, or another key signed it: have it made again.",
        )


def statement(data: Any, count: int, what: str) -> list[Any]:
    """The fields of an encoded statement, its version stripped; raises ``Refused``."""
    require(isinstance(data, bytes), what)
    return fields_of(data, count, MAX_STATEMENT_BYTES, what)
