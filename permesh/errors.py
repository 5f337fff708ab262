"""The errors that permesh shows to people and to peers.

Owns the shape of a refusal: a stable code, one sentence, and the remedy. Knows nothing of who
raises it or of how it is shown.
"""

from __future__ import annotations


class PermeshError(Exception):
    """Something a person can act on: shown as one line, never as a traceback.

    ``code`` is stable and machine-readable (``daemon.absent``), ``message`` is one sentence,
    ``remedy`` says what to do about it, ``http_status`` is what the local API answers with.
    """

    def __init__(
        self, code: str, message: str, remedy: str = "", *, http_status: int = 400
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.http_status = http_status

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class Refused(PermeshError):
    """Input from a peer (or a file a peer could have written) that is not valid.

    Only this may leave a decoder or a verifier that is given hostile bytes.
    """


class NotFound(PermeshError):
    """What was asked for does not exist here."""

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(code, message, remedy, http_status=404)
