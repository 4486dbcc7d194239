"""Builds the application once in the process that servers are forked from, since Litestar caches what it finds out."""

from __future__ import annotations

from interlock.server.app import build_app
from interlock.server.settings import Settings

build_app(Settings())
