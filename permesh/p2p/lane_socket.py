"""The sockets under direct lanes: TLS 1.3 between two daemons that already know each other.

Owns the certificate of one run, its pinning, and the one-time token's passage. Must never know
how certificate and token got here: `permesh/p2p/lanes.py` exchanges them over an authenticated
stream.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import ssl
import tempfile
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .wire import at_most

TOKEN_BYTES = 32
CLOSE_S = 0.5
_READ = 256 * 1024
_KNOWN = b"\x01"

SOCKET_ERRORS = (OSError, ssl.SSLError, trio.BrokenResourceError, trio.ClosedResourceError)


class SocketPipe:
    def __init__(self, stream: trio.SSLStream) -> None:
        self._stream = stream

    async def send(self, data: bytes | memoryview) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return bytes(await self._stream.receive_some(_READ))

    async def aclose(self) -> None:
        await close_socket(self._stream)


async def close_socket(stream: trio.SSLStream) -> None:
    with at_most(CLOSE_S), contextlib.suppress(trio.BrokenResourceError):
        await stream.aclose()  # says goodbye, which a peer that does not read would block
    await trio.aclose_forcefully(stream.transport_stream)


async def take_token(
    transport: trio.SocketStream, context: ssl.SSLContext
) -> tuple[trio.SSLStream, bytes]:
    """Shake hands with whoever connected, and read a token; raises one of `SOCKET_ERRORS`."""
    stream = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
    await stream.do_handshake()
    return stream, await _read_exactly(stream, TOKEN_BYTES)


async def welcome(stream: trio.SSLStream) -> None:
    """Tell the other end that its token was good."""
    await stream.send_all(_KNOWN)


async def dial(host: str, port: int, certificate: bytes, token: bytes) -> trio.SSLStream | None:
    """The socket, once the other end has shown exactly ``certificate`` and taken the token."""
    with contextlib.suppress(*SOCKET_ERRORS):
        transport = await trio.open_tcp_stream(host, port)
        try:
            stream = trio.SSLStream(transport, _CLIENT_CONTEXT, https_compatible=True)
            await stream.do_handshake()
            if stream.getpeercert(binary_form=True) == certificate:
                await stream.send_all(token)
                if await _read_exactly(stream, len(_KNOWN)) == _KNOWN:
                    return stream
        except BaseException:
            await trio.aclose_forcefully(transport)
            raise
        await trio.aclose_forcefully(transport)
    return None


async def _read_exactly(stream: trio.SSLStream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = await stream.receive_some(length - len(data))
        if not more:
            raise trio.BrokenResourceError("the stream ended early")
        data += more
    return data


def _client_context() -> ssl.SSLContext:
    """TLS 1.3 without certificate authorities: `dial` compares the certificate itself, byte for
    byte, before it says anything, and the handshake proves that the other end has its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CLIENT_CONTEXT = _client_context()


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """A fresh key with its certificate (DER) for one run of the daemon.

    Python's ssl reads keys from files alone, so the key touches the disk for a moment, encrypted
    under a passphrase that never does.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "permesh lane")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Pinned by its bytes and thrown away with the process: dates would only add clocks.
        .not_valid_before(datetime.datetime(2000, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .sign(key, hashes.SHA256())
    )
    passphrase = secrets.token_bytes(32).hex()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody resumes: a token is good for one handshake
    with tempfile.TemporaryDirectory(prefix="permesh-") as folder:
        path = Path(folder) / "lane.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase.encode()),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(path, password=passphrase)
    return context, certificate.public_bytes(serialization.Encoding.DER)
