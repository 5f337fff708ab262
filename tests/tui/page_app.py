"""A program that draws as an app in a page does, without Textual: it starts in no time.

It says its process and size, then what is typed and the sizes it is told; some words do more.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from textual_serve._binary_encode import dump

FILE = b"what a screenshot would be"


def packet(kind: bytes, payload: bytes) -> None:
    os.write(1, kind + len(payload).to_bytes(4, "big") + payload)


def draw(text: str) -> None:
    packet(b"D", f"{text}\n".encode())


def ask(**meta: object) -> None:
    packet(b"M", json.dumps(meta).encode())


def read() -> tuple[bytes, bytes]:
    kind = sys.stdin.buffer.read(1)
    if not kind:
        sys.exit(0)
    return kind, sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big"))


def typed(text: str) -> None:
    word, _, rest = text.partition(" ")
    match word:
        case "leave":
            ask(type="exit")
            sys.exit(0)
        case "crash":
            sys.exit("a fault of the app")
        case "open":
            ask(type="open_url", url=rest, new_tab=True)
        case "deliver":
            ask(
                type="deliver_file_start", key="key", path="/tmp/a\r\n b.svg",
                open_method="browser", mime_type="text/html", encoding="", name=None,
            )  # fmt: skip
        case "hang":
            hang()
    draw(f"typed {text}")


def hang() -> NoReturn:
    draw("typed hang")
    while True:
        read()


def main() -> None:
    os.write(1, b"__GANGLION__\n")
    draw(f"process {os.getpid()} size {os.environ['COLUMNS']}x{os.environ['ROWS']}")
    left = FILE
    while True:
        kind, payload = read()
        if kind == b"D":
            typed(payload.decode())
            continue
        meta = json.loads(payload)
        match meta["type"]:
            case "quit":
                ask(type="exit")
                return
            case "deliver_chunk_request":
                packet(b"P", dump(("deliver_chunk", meta["key"], left)))
                left = b""
            case "resize":
                draw(f"size {meta['width']}x{meta['height']}")
            case other:
                draw(other)


main()
