"""What the daemon and its engine say to each other: frames, operations, limits.

Owns the bytes on the socket pair and the names of the operations. Imports no MLX, since the
daemon's side uses it too, and does no I/O: the owner of the socket moves the bytes.

A frame is two unsigned 32-bit big-endian lengths, a msgpack map (the fields), and raw bytes (the
payload: tensors, back to back, in C order and little-endian). A request's fields are `id`, `op`
and those of the operation; the reply has the same `id`, `ok`, and then either the answer's fields
or `code`, `message` and `remedy`. Replies come in the order of the requests. The engine speaks
first: `{id: 0, ok: true, backend, pid}` once it is ready.

The operations (`span` is ``[first, last)``, layers counted from 0; `session` is 32 hex digits that
the caller chooses; a field with `= x` may be left out):

    load       {model_dir, first, last, ends}   hold these layers; `ends`: also embedding, norm,
               head and tokenizer. Repeated calls add to what is held. first == last with `ends`
               holds the ends alone.
           →   {revision, layers, hidden_size, dtype, context, spans: [[first, last], …], ends,
               weight_bytes, needed_bytes}      bytes: of this model, as held and as computed
    unload     {revision}                       closes its sessions as well
           →   {}
    self_test  {model_dir, first, last}         whole against split at `first` and `last`; with
               the files' hashes checked first. Holds one layer at a time.
           →   {}      refused, with the reason, for a model that must never be served in parts
    open       {session, revision, first, last, max_tokens}    caches for a middle stage
           →   {}
    forward    {session, start, tensors} + payload    positions `start`… through the span. Trims
               what is cached to `start` first, so replaying a step is harmless.
           →   {tensors, milliseconds} + payload
    close      {session}                        also for a session that is unknown
           →   {}
    ask_open   {session, revision, split, messages | prompt, temperature = 1.0, top_p = 1.0,
               seed = null, max_tokens = 256, stop = []}       `split` is [a, b]: the asker runs
               [0, a) and [b, layers); null: all of it, here
           →   {prompt_tokens, max_tokens, chunks: [[start, end], …]}
    ask_prefill {session, chunk}                `chunk` is an index into `chunks`, in order
           →   {start, tensors, milliseconds} + payload        for the ring; nothing without split
    ask_step   {session, start, tensors} + payload   what the ring's tail answered, in order. All
               chunks but the last only fill the caches (token null). Without split: {session}
           →   {token, text, finish_reason, logprob, start, tensors, milliseconds} + payload
               `text` may be empty, and lags behind the token while a stop string is possible;
               `finish_reason` is null, "stop" or "length"; the payload is the next step for the
               ring, absent when finished or prefilling
    ask_close  {session}                        like `close`
    stats      {}
           →   {backend, pid, weight_bytes, active_bytes, peak_bytes, sessions, models: [revision]}

`tensors` is ``[[dtype, [1, n, …]], …]``: whoever carries it between engines passes it on as it is.
A session whose operation failed while computing is gone (`session.unknown` from then on); one that
was refused for its input is as it was.
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack

from permesh.errors import PermeshError

PREFIX = struct.Struct(">II")
# A chat's messages travel in the header; a model's context of text fits well inside this.
MAX_HEADER_BYTES = 4 * 1024 * 1024
# A prefill chunk of 512 positions of the widest models (16,384 floats of 4 bytes) is 32 MiB.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
# One read of this size takes the whole frame of a decode step.
READ_BYTES = 64 * 1024

MAX_SESSIONS = 64  # open at once, stages and askers together; each holds caches
MAX_SESSION_TOKENS = 131_072
MAX_TENSORS = 8  # values that pass between two layers; most models have one
MAX_FORWARD_TOKENS = 2048  # positions in one forward
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
# The prompt is computed in chunks of this many positions, here and in the reference run: equal
# shapes give equal bits, and a chunk is what one lane message carries.
PREFILL_CHUNK = 512


def encode_prefix(fields: dict[str, Any], payload_bytes: int) -> bytes:
    """The frame up to its payload, which is sent after it without being copied."""
    header = msgpack.packb(fields, use_bin_type=True)
    if len(header) > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise PermeshError(
            "engine.too_long",
            f"A message of {len(header)} + {payload_bytes} bytes is too long for the engine.",
            "Shorten the prompt.",
            http_status=413,
        )
    return PREFIX.pack(len(header), payload_bytes) + bytes(header)


class Deframer:
    """Bytes in, frames out; long payloads are received where they will stay.

    Read into `buffer()`, say how much with `received(n)`, then take frames with `next_frame()`
    until it gives None. Raises ``ValueError`` on a frame over the limits: the other side is then
    broken beyond repair.
    """

    def __init__(self) -> None:
        self._head = bytearray(READ_BYTES)
        self._start = 0  # unread bytes are _head[_start:_end]
        self._end = 0
        self._fields: dict[str, Any] | None = None
        self._body = memoryview(b"")  # a long payload under way
        self._body_end = 0

    def buffer(self) -> memoryview:
        if self._fields is not None:
            return self._body[self._body_end :]
        if self._start and self._end == len(self._head):
            self._compact()
        return memoryview(self._head)[self._end :]

    def received(self, count: int) -> None:
        if self._fields is not None:
            self._body_end += count
        else:
            self._end += count

    def next_frame(self) -> tuple[dict[str, Any], memoryview] | None:
        """The next whole frame: its fields and its payload."""
        if self._fields is not None:
            if self._body_end < len(self._body):
                return None
            fields, self._fields = self._fields, None
            return fields, self._body
        available = self._end - self._start
        if available < PREFIX.size:
            return None
        header_bytes, payload_bytes = PREFIX.unpack_from(self._head, self._start)
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise ValueError(f"a frame of {header_bytes} + {payload_bytes} bytes")
        if available < PREFIX.size + header_bytes:
            self._reserve(PREFIX.size + header_bytes)
            return None
        return self._take(header_bytes, payload_bytes)

    def _take(
        self, header_bytes: int, payload_bytes: int
    ) -> tuple[dict[str, Any], memoryview] | None:
        view = memoryview(self._head)
        at = self._start + PREFIX.size
        try:
            fields = msgpack.unpackb(view[at : at + header_bytes], raw=False)
        except (ValueError, msgpack.UnpackException) as error:
            raise ValueError("a frame's header that is not msgpack") from error
        if not isinstance(fields, dict):
            raise ValueError("a frame's header that is not a map")
        at += header_bytes
        body = memoryview(bytearray(payload_bytes))
        here = min(payload_bytes, self._end - at)
        body[:here] = view[at : at + here]
        self._start = at + here
        if self._start == self._end:
            self._start = self._end = 0
        if here == payload_bytes:
            return fields, body
        self._fields, self._body, self._body_end = fields, body, here
        return None

    def _reserve(self, size: int) -> None:
        if len(self._head) - self._start < size:
            self._compact()
            if len(self._head) < size:
                self._head = self._head + bytearray(size - len(self._head))

    def _compact(self) -> None:
        self._head[: self._end - self._start] = self._head[self._start : self._end]
        self._end -= self._start
        self._start = 0
