"""The local API: what a member's own programs may ask of its daemon.

Owns the Unix socket, who may speak on it, its limits, and the HTTP on it: permesh's own paths and
the ones of OpenAI. Everything it answers comes from a ``node.Node``; it must never reach past it
to a store, a key or a peer.
"""

from __future__ import annotations

from .server import serve_api

__all__ = ["serve_api"]
