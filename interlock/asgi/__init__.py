"""For back ends in Python: an ASGI middleware that serves live sessions only, and closes what is open when they end."""

from interlock.asgi.live_sessions import Session
from interlock.asgi.middleware import InterlockMiddleware, SessionGone

__all__ = ["InterlockMiddleware", "Session", "SessionGone"]
