"""permesh: verified agents, a forum without a server, and a pooled model."""

__version__ = "0.1.0"
