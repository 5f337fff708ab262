"""The admission log's hash tree: RFC 6962 over SHA-256, as `pymerkle` builds it.

Owns the tree in memory and the form in which its proofs travel. Must never know what a leaf says.
A leaf's index counts from one, so that it is the number of the agent whom it admits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymerkle import InclusionProof, InvalidProof
from pymerkle.core import BaseMerkleTree

from permesh.errors import Refused

from .genesis import check_bytes, is_uint, require

ALGORITHM = "sha256"
# A path through a tree of 2**32 leaves, its own leaf included.
MAX_PATH = 33


class Tree(BaseMerkleTree):  # type: ignore[misc] # pymerkle has no types
    """Keeps the leaves' hashes (32 bytes each) and forgets their data."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        super().__init__(ALGORITHM)
        self._leaves = list(leaves)
        self._root: bytes | None = None  # of all leaves, until there are others

    def copy(self) -> Tree:
        """One that may grow another way."""
        return Tree(self._leaves)

    def cut(self, size: int) -> None:
        """Forget all leaves after the first ``size``."""
        del self._leaves[size:]
        self._root = None
        self.cache_clear()

    @property
    def size(self) -> int:
        return len(self._leaves)

    def append(self, data: bytes) -> int:
        """The new leaf's index."""
        return int(self.append_entry(data))

    def root(self, size: int | None = None) -> bytes:
        """Of the first ``size`` leaves, all of them by default."""
        if size is not None and size != self.size:
            return bytes(self.get_root(size))
        if self._root is None:
            self._root = bytes(self.get_root())
        return self._root

    def path(self, index: int, size: int) -> Path:
        proof = self.prove_inclusion(index, size)
        return Path(index, size, bytes(proof.rule), tuple(proof.path))

    # -- pymerkle's storage

    def _encode_entry(self, data: bytes) -> bytes:
        return data

    def _store_leaf(self, _data: bytes, digest: bytes) -> int:
        self._leaves.append(digest)
        self._root = None
        return len(self._leaves)

    def _get_leaf(self, index: int) -> bytes:
        return self._leaves[index - 1]

    def _get_leaves(self, offset: int, width: int) -> list[bytes]:
        return self._leaves[offset : offset + width]

    def _get_size(self) -> int:
        return len(self._leaves)


class Path:
    """Shows that a leaf stands at ``index`` of a tree of ``size`` leaves (RFC 6962, 2.1.1).

    ``hashes`` are the leaf's own and then its audit path, from below; ``rule`` has a byte for each:
    on which side the other subtree stands. It follows from index and size, and is checked to.
    """

    __slots__ = ("hashes", "index", "rule", "size")

    def __init__(self, index: int, size: int, rule: bytes, hashes: tuple[bytes, ...]) -> None:
        self.index, self.size, self.rule, self.hashes = index, size, rule, hashes

    def fields(self) -> list[Any]:
        """For a canonical message."""
        return [self.index, self.size, self.rule, list(self.hashes)]

    @classmethod
    def of(cls, fields: Any) -> Path:
        """Raises ``Refused`` unless ``fields`` could be a path."""
        require(isinstance(fields, list) and len(fields) == 4, "path")
        index, size, rule, hashes = fields
        require(is_uint(index) and is_uint(size), "path's place")
        require(isinstance(hashes, list) and 0 < len(hashes) <= MAX_PATH, "path's length")
        require(isinstance(rule, bytes) and len(rule) == len(hashes), "path's rule")
        return cls(index, size, rule, tuple(check_bytes(one, 32, "path's hash") for one in hashes))

    def verify(self, leaf: bytes, root: bytes, size: int) -> None:
        """Raises ``Refused("log.path")`` unless ``leaf``'s bytes stand there under ``root``.

        ``size`` is that root's: one path can fit several trees.
        """
        proof = InclusionProof(
            ALGORITHM, True, self.size, self.index, list(self.rule), list(self.hashes)
        )
        try:
            proof.verify(proof.hasher.hash_buff(leaf), root, size=size, algorithm=ALGORITHM)
        except (InvalidProof, ValueError) as error:
            raise Refused(
                "log.path",
                "The entry does not stand in the log where it is said to.",
                "Ask for the proof again.",
            ) from error
