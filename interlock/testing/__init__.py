"""Tests for realms: run intents without a server or a database of its own."""

from interlock.testing.client import RealmClient, Run, realm

__all__ = ["RealmClient", "Run", "realm"]
