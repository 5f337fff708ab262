"""What keeps libp2p's own tasks and logs from hurting the daemon.

The guards against py-libp2p 0.8.1 stand in `guards.py` and its siblings, one class or function
each, with a test in `tests/p2p/` that sends the hostile bytes. They lean on private names, so the
release is pinned. `guards_socket.py` guards the TCP socket below a connection, `guards_host.py`
what a connection may do, `guards_pubsub.py` the gossip. Must never know what a peer is a member
of.

Here: an error in a task of the library ends that task alone, and its logs are one line each.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.tools.anyio_service import Service, TrioManager

from permesh.errors import PermeshError

# A task of the library that is meant to run for ever starts again after this pause.
RESTART_S = 1.0
MAX_LOG_CHARACTERS = 300
# These report as errors what is routine here (a peer that is away, a scan of the port), or what
# the swarm reports itself, with a remedy.
_NOISY = (
    "libp2p.host.basic_host",
    "libp2p.network",
    "libp2p.protocol_muxer",
    "libp2p.pubsub",
    "libp2p.security",
    "libp2p.stream_muxer",
    "libp2p.tools",
    "libp2p.transport",
)

logger = logging.getLogger(__name__)

AsyncFunction = Callable[..., Awaitable[Any]]


class ContainedManager(TrioManager):
    """Runs a libp2p service whose tasks cannot end it.

    `TrioManager` cancels the whole service, and raises from the host, when any of its tasks
    raises: a decoder in a stream handler, a validator, a heartbeat. Here the error is counted in
    ``errors`` by its type's name, the task is over, and a daemon task starts again.
    """

    def __init__(self, service: Service, errors: Counter[str]) -> None:
        super().__init__(service)
        self.errors = errors

    def run_task(
        self,
        async_fn: AsyncFunction,
        *args: Any,
        daemon: bool = False,
        name: str | None = None,
        _internal: bool = False,
    ) -> None:
        contained = async_fn if _internal else functools.partial(self._contain, async_fn, daemon)
        super().run_task(
            contained,
            *args,
            daemon=daemon,
            name=name or getattr(async_fn, "__name__", "task"),
            _internal=_internal,
        )

    async def _contain(self, async_fn: AsyncFunction, daemon: bool, *args: Any) -> None:
        while True:
            try:
                await async_fn(*args)
            except Exception as error:
                count_error(self.errors, error, str(self._service))
            if not daemon:
                return
            await trio.sleep(RESTART_S)


class Tasks:
    """A nursery whose tasks cannot end each other: an error in one is counted, and it is over."""

    def __init__(self, errors: Counter[str]) -> None:
        self.errors = errors
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """On the way out, what still runs is cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel()

    def spawn(self, function: AsyncFunction, *args: Any) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self.contain, function, *args)

    async def contain(self, function: AsyncFunction, *args: Any) -> None:
        try:
            await function(*args)
        except PermeshError as error:  # routine: a peer that is away, slow or refused
            logger.debug("%s: %s", function.__name__, error)
        except Exception as error:
            count_error(self.errors, error, function.__name__)


def only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error itself where there is one only: nurseries wrap each in a group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def count_error(errors: Counter[str], error: BaseException, where: str) -> None:
    errors[type(error).__name__] += 1
    logger.warning("%s: %s: %s", where, type(error).__name__, first_line(str(error)))


def first_line(text: str) -> str:
    return text.split("\n", 1)[0][:MAX_LOG_CHARACTERS]


@asynccontextmanager
async def run_service(service: Service, errors: Counter[str]) -> AsyncIterator[None]:
    """`background_trio_service`, contained."""
    async with trio.open_nursery() as nursery:
        manager = ContainedManager(service, errors)
        service._manager = manager
        nursery.start_soon(manager.run)
        await manager.wait_started()
        try:
            yield
        finally:
            await manager.stop()


class _OneLine(logging.Handler):
    """Cuts a record to one line without its traceback, before the handlers further up see it."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = first_line(record.getMessage()), None
        record.exc_info = record.exc_text = record.stack_info = None


def tame_logs() -> None:
    """Hand libp2p's warnings to Python's logging, one line each; idempotent.

    Unasked, the library's logger does not propagate, so that its warnings go to stderr with
    whole tracebacks; and it calls ``logging.debug`` itself, which gives a root logger without
    handlers one that writes to stderr.
    """
    library = logging.getLogger("libp2p")
    library.propagate = True
    library.setLevel(logging.WARNING)
    if not any(isinstance(handler, _OneLine) for handler in library.handlers):
        library.addHandler(_OneLine())
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("libp2p."):
            logging.getLogger(name).setLevel(logging.NOTSET)  # some set INFO for themselves
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
