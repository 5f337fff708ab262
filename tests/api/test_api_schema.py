"""Every path against its own OpenAPI schema, by schemathesis over the real socket.

Requests are made from the schema, those that fit and those that do not; no answer may be a server
error, nor differ in status, type or shape from what the schema says. Left out is what never ends:
`/events`, which `test_api_forum.py` reads.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from permesh import schema as shapes
from permesh.api.app import build_app
from permesh.client import Client
from permesh.config import Home
from tests.api.fakenode import FakeNode, running

BASE = "http://permesh"
nobody = SimpleNamespace(forum=None, attachments=None)
schema = schemathesis.openapi.from_dict(build_app(nobody).openapi())


def misfits_are_refused(context: Any, response: Any, case: schemathesis.Case) -> bool | None:
    """Too long (413) is a refusal too."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    misfits_are_refused,
]
# What the paths may name, so that not every request is about nothing.
known: dict[str, str] = {}


class UnixAdapter(HTTPAdapter):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = _Pool(path)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Pool(HTTPConnectionPool):
    def __init__(self, path: Path) -> None:
        super().__init__("permesh", timeout=10)
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._path)


class _Connection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("permesh", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    root = Path(tempfile.mkdtemp(prefix="pm-"))
    home = Home(root)
    try:
        with running(home, FakeNode()), requests.Session() as session:
            session.mount(BASE, UnixAdapter(home.socket))
            with Client(home.socket) as client:
                room = client.create_room("lobby", "talk")
                post = client.post("lobby", "hello @birch 👍")
                client.post(room.id, "an answer", post.id)
                client.edit(post.id, shapes.NewText(text="good day"))
                stored = client.put_file([b"bytes"])
            known.update(
                room="lobby", post=post.id, agent="birch", file_hash=stored.hash, name="tiny",
                model="tiny",
            )  # fmt: skip
            yield session
    finally:
        shutil.rmtree(root)


@schema.hook
def map_path_parameters(_: object, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    return parameters and {
        name: known[name] if name in known and len(str(value)) % 2 else value
        for name, value in parameters.items()
    }


@schema.hook
def map_body(_: object, body: Any) -> Any:
    model = body.get("model") if isinstance(body, dict) else None
    fits = isinstance(model, str) and 0 < len(model) <= 256
    return {**body, "model": known["model"]} if fits and len(model) % 2 else body


@schema.exclude(path="/events").parametrize()
@settings(
    derandomize=True,
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_the_schema_says_holds(case: schemathesis.Case, session: requests.Session) -> None:
    response = case.call(base_url=BASE, session=session)
    case.validate_response(response, checks=CHECKS)
