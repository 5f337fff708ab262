"""One human, once: what stands for a person in a mesh.

Owns the names of the verifiers and the *nullifier*, 32 bytes that are the same for one person
whenever that person enrols in one mesh, and that name nobody. It is not secret who could be behind
one: who can guess what was hashed can check the guess. Must never know how a verifier verifies.
"""

from __future__ import annotations

import hashlib
import unicodedata

from permesh.errors import Refused

VOUCHED = "vouched"  # registrars have met the person
CHITIN = "chitin"  # the owner holds a soul of the Chitin registry on Base
FOUNDING = "founding"  # the genesis names the person
VERIFIERS = (VOUCHED, CHITIN)

MAX_PERSON_CHARS = 200


def person_hash(text: str) -> bytes:
    """Of what registrars know a person by, such as a mail address (32 bytes).

    Case, width and outer blanks do not count. Raises ``Refused("person.text")``.
    """
    # Twice: folding case can leave a text that is not normal.
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()
    if not plain or len(plain) > MAX_PERSON_CHARS or not plain.isprintable():
        raise Refused(
            "person.text",
            "This does not name a person.",
            "Give what the registrars know you by, such as a mail address, in one line "
            f"of at most {MAX_PERSON_CHARS} characters.",
        )
    return hashlib.sha256(b"permesh/handle/1\x00" + plain.encode()).digest()


def vouched_nullifier(scope: bytes, person: bytes) -> bytes:
    """``scope`` is the mesh's, so that one person's nullifiers in two meshes do not match."""
    return hashlib.sha256(b"permesh/person/vouched/1\x00" + scope + person).digest()
