"""Files by the SHA-256 of their bytes, on this member's disk.

Owns `$PERMESH_HOME/attachments/`: what is there, how it gets there whole or not at all, and what
goes when there is no more room. Must never know a peer or a post.

`size_of`, `pin` and `unpin` touch memory alone and belong to the event loop. All else reads or
writes the disk, may raise ``OSError``, and belongs into worker threads, of any number.

    own/HASH     what was put here; stays until it is forgotten
    HASH         fetched; the least recently used go first
    HASH.part    the beginning of one that is being fetched; goes as fetched ones do
    *.tmp        on its way; what a crash left is taken away at the next start
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .errors import PermeshError
from .identity.files import make_private_directory, sync_directory
from .p2p.blobs import MAX_FILE_BYTES

BLOCK = 4096  # what the smallest file takes of a disk, and so of the budget
COPY_BYTES = 256 * 1024

_NAME = re.compile(r"[0-9a-f]{64}")
_PART = ".part"
_TEMPORARY = ".tmp"


class Shelf:
    """``budget`` bounds all that is kept, in bytes; what is in use just now may go beyond it."""

    def __init__(self, directory: Path, budget: int) -> None:
        self._directory = directory
        self._own_directory = directory / "own"
        self._budget = budget
        self._lock = threading.RLock()
        self._own: dict[bytes, int] = {}
        self._fetched: OrderedDict[bytes, int] = OrderedDict()  # the least recently used first
        self._parts: OrderedDict[bytes, int] = OrderedDict()
        self._used = 0  # of the disk, by all three
        self._pins: Counter[bytes] = Counter()  # changed by the event loop alone
        self._intact: set[bytes] = set()  # looked through since we began
        make_private_directory(self._own_directory)
        self._scan()

    def _scan(self) -> None:
        """Take stock, and take away what a crash left."""
        for path, size in _files(self._own_directory):
            if _NAME.fullmatch(path.name) and 0 < size <= MAX_FILE_BYTES:
                self._note(self._own, bytes.fromhex(path.name), size)
            elif path.suffix == _TEMPORARY:
                path.unlink(missing_ok=True)
        for path, size in _files(self._directory):
            stem = path.name.removesuffix(_PART)
            if path.suffix == _TEMPORARY:
                path.unlink(missing_ok=True)
            elif _NAME.fullmatch(stem):
                file_hash = bytes.fromhex(stem)
                if not 0 < size <= MAX_FILE_BYTES or file_hash in self._own:
                    path.unlink(missing_ok=True)
                else:
                    kept = self._fetched if stem == path.name else self._parts
                    self._note(kept, file_hash, size)
        self.make_room()

    def _note(self, kept: dict[bytes, int], file_hash: bytes, size: int) -> None:
        """What is kept of it now: ``size`` bytes, which is the latest use; 0 is nothing."""
        self._used += _cost(size) - _cost(kept.pop(file_hash, 0))
        if size:
            kept[file_hash] = size

    # -- what is here

    def size_of(self, file_hash: bytes) -> int | None:
        """Of the whole file, if it is here."""
        return self._own.get(file_hash) or self._fetched.get(file_hash)

    def untouched_since(self, when: float) -> list[bytes]:
        """Whole files, own and fetched, that nobody has put or opened since (seconds, Unix)."""
        with self._lock:
            kept = [*self._own, *self._fetched]
            paths = {file_hash: self._path(file_hash) for file_hash in kept}
        found = []
        for file_hash, path in paths.items():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < when:
                    found.append(file_hash)
        return found

    def open(self, file_hash: bytes) -> BinaryIO | None:
        """The file, read through and found right; what does not fit its name is taken away."""
        with self._lock:
            file = self._checked(file_hash)
            if file is not None and file_hash in self._fetched:
                self._fetched.move_to_end(file_hash)
                os.utime(file.fileno())
            return file

    def read(self, file_hash: bytes, offset: int, length: int) -> bytes | None:
        """Bytes of a file that was right when it was last looked through, or None."""
        if file_hash not in self._intact:
            with self._lock:
                file = self._checked(file_hash)
            if file is None:
                return None
        else:
            try:
                file = self._path(file_hash).open("rb")
            except FileNotFoundError:
                return None
        with file:
            return os.pread(file.fileno(), length, offset)

    def _checked(self, file_hash: bytes) -> BinaryIO | None:
        size = self.size_of(file_hash)
        if size is None:
            return None
        try:
            file = self._path(file_hash).open("rb")
        except FileNotFoundError:
            self.remove([file_hash])
            return None
        try:
            right = os.fstat(file.fileno()).st_size == size and _hash(file) == file_hash
        except OSError:
            file.close()
            raise
        if not right:
            file.close()
            self.remove([file_hash])
            return None
        file.seek(0)
        self._intact.add(file_hash)
        return file

    def _path(self, file_hash: bytes) -> Path:
        own = file_hash in self._own
        return (self._own_directory if own else self._directory) / file_hash.hex()

    def _part(self, file_hash: bytes) -> Path:
        return self._directory / (file_hash.hex() + _PART)

    # -- own files

    def begin(self) -> Incoming:
        """A file on its way; ends with `keep`, or with `Incoming.discard`."""
        descriptor, name = tempfile.mkstemp(suffix=_TEMPORARY, dir=self._own_directory)
        return Incoming(os.fdopen(descriptor, "wb"), Path(name))

    def keep(self, incoming: Incoming) -> bytes:
        """Give an own file its place, durably; returns its hash. What was fetched may go for it.

        Raises ``attachment.full`` if own files alone fill the budget.
        """
        file_hash = incoming.close()
        with self._lock:
            own = sum(map(_cost, self._own.values())) - _cost(self._own.get(file_hash, 0))
            if own + _cost(incoming.size) > self._budget:
                raise PermeshError(
                    "attachment.full",
                    "The files of this member's own posts fill the room that attachments have.",
                    "Raise attachments_mb under [forum] in config.toml.",
                    http_status=507,
                )
            incoming.path.rename(self._own_directory / file_hash.hex())
            self._note(self._own, file_hash, incoming.size)
            self._intact.add(file_hash)
            if file_hash in self._fetched:
                (self._directory / file_hash.hex()).unlink(missing_ok=True)
                self._note(self._fetched, file_hash, 0)
            self._drop_part(file_hash)
            self.make_room()
        sync_directory(self._own_directory)
        return file_hash

    # -- files that come in parts

    def part_size(self, file_hash: bytes) -> int:
        """How much of the file's beginning is here."""
        with self._lock:
            return self._parts.get(file_hash, 0)

    def append(self, file_hash: bytes, offset: int, data: bytes) -> None:
        """Add to a part of ``offset`` bytes; ``FileNotFoundError`` if it is no longer that.

        It should be pinned. Not synced: what a power cut spoils is found out once it is whole.
        """
        with self._lock, self._whole_part(file_hash, offset):
            if offset + len(data) > MAX_FILE_BYTES:
                raise ValueError("a part has no more bytes than a file may have")
            flags = os.O_WRONLY | os.O_CLOEXEC | (0 if offset else os.O_CREAT)
            descriptor = os.open(self._part(file_hash), flags, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.truncate(offset)  # what an earlier write left that broke off
                file.seek(offset)
                file.write(data)
            self._note(self._parts, file_hash, offset + len(data))
            self.make_room()

    def truncate(self, file_hash: bytes, size: int) -> None:
        with self._lock:
            if size == 0:
                self._drop_part(file_hash)
            elif size < self.part_size(file_hash):
                os.truncate(self._part(file_hash), size)
                self._note(self._parts, file_hash, size)

    def finish(self, file_hash: bytes) -> bool:
        """Give a whole part its place, durably, if its hash fits."""
        with self._lock:
            if self.size_of(file_hash) is not None:  # it was put here meanwhile
                self._drop_part(file_hash)
                return True
            size = self.part_size(file_hash)
            with self._whole_part(file_hash, size), self._part(file_hash).open("rb") as file:
                if _hash(file) != file_hash:
                    return False
                os.fsync(file.fileno())
                self._part(file_hash).rename(self._directory / file_hash.hex())
            self._note(self._parts, file_hash, 0)
            self._note(self._fetched, file_hash, size)
            self._intact.add(file_hash)
            self.make_room()
        sync_directory(self._directory)
        return True

    @contextmanager
    def _whole_part(self, file_hash: bytes, size: int) -> Iterator[None]:
        """Somebody else may have taken the part away, even its file: then forget it."""
        if self._parts.get(file_hash, 0) != size:
            raise FileNotFoundError(errno.ENOENT, "the part is no longer there")
        try:
            yield
        except FileNotFoundError:
            self._note(self._parts, file_hash, 0)
            raise

    def _drop_part(self, file_hash: bytes) -> None:
        self._part(file_hash).unlink(missing_ok=True)
        self._note(self._parts, file_hash, 0)

    # -- room

    def remove(self, hashes: Iterable[bytes]) -> None:
        """Own or fetched or a part: it goes. Who has it open reads on."""
        with self._lock:
            for file_hash in hashes:
                if self.size_of(file_hash) is not None:
                    self._path(file_hash).unlink(missing_ok=True)
                self._note(self._own, file_hash, 0)
                self._note(self._fetched, file_hash, 0)
                self._intact.discard(file_hash)
                self._drop_part(file_hash)

    def pin(self, file_hash: bytes) -> None:
        """Until it is unpinned, neither the file nor its part goes for want of room."""
        self._pins[file_hash] += 1

    def unpin(self, file_hash: bytes) -> bool:
        """Whether there is too much now: then `make_room`."""
        self._pins[file_hash] -= 1
        if not self._pins[file_hash]:
            del self._pins[file_hash]
        return self._used > self._budget

    def make_room(self) -> None:
        """Parts that nobody works on go first, then files, the least recently used first."""
        with self._lock:
            for kept in (self._parts, self._fetched):
                if self._used <= self._budget:
                    return
                for file_hash in [key for key in kept if key not in self._pins]:
                    if self._used <= self._budget:
                        return
                    self.remove([file_hash])


class Incoming:
    """An own file on its way: `write` what comes, and then `Shelf.keep` or `discard` it."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> bytes:
        """Make it durable; returns its hash."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.digest()

    def discard(self) -> None:
        """Leave nothing behind; harmless once it is kept."""
        with suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()
        self.path.unlink(missing_ok=True)


def _files(directory: Path) -> list[tuple[Path, int]]:
    """Plain files and their sizes, the least recently used first."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime_ns, Path(entry.path), status.st_size))
    return [(path, size) for _, path, size in sorted(found)]


def _hash(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while data := file.read(COPY_BYTES):
        digest.update(data)
    return digest.digest()


def _cost(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
