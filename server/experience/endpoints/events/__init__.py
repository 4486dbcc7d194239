"""Endpoints of back ends: event messages, as pages and as a stream; and the stream that administrators follow, too."""
