"""Splits the bytes of one connection into HTTP/1.1 requests (RFC 9112). No I/O.

llhttp parses. It is fed at most to the end of one request, so the next one is not parsed before the caller asks for it.
"""

from __future__ import annotations

import re
from typing import Final

import httptools
import msgspec

from interlock.server.experience.headers import RawHeaders
from interlock.server.experience.problems import RequestRefused

MAX_HEADERS: Final = 128
"""Headers of one request: browsers and proxies send about thirty."""

MAX_CHUNKS: Final = 1024
"""Chunks and trailers of one body. Each costs two parser calls; clients send chunks of kilobytes."""

_NO_PARSER: Final = httptools.HttpRequestParser(object())
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_BLANK_LINE: Final = b"\r\n\r\n"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_READ_HERE: Final = _FRAMING | {b"host", b"expect"}
"""Headers that determine where a request ends, and whether it is valid."""
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*\Z")
_LENGTH: Final = re.compile(rb"[0-9]{1,19}\Z")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*[;\r]")


class Request(msgspec.Struct):
    """One request. Header names are in lower case. ``offers_upgrade``: it has ``Connection: upgrade`` and ``Upgrade``."""

    method: str
    target: bytes
    http_version: str
    headers: RawHeaders
    keep_alive: bool
    offers_upgrade: bool
    has_body: bool
    body: bytes


class RequestReader:
    """Reads one request after the other.

    ``header_bytes`` limits the request line and headers of a request, ``body_bytes`` its content.
    """

    __slots__ = (
        "_body",
        "_body_begun",
        "_body_bytes",
        "_chunked",
        "_expects",
        "_fields",
        "_head_bytes",
        "_headers",
        "_in_framing",
        "_in_line",
        "_in_trailers",
        "_keep_alive",
        "_line",
        "_lines",
        "_method",
        "_parser",
        "_remaining",
        "_request_line",
        "_seam",
        "_size",
        "_target",
        "_version",
        "complete",
        "in_body",
    )

    def __init__(self, *, header_bytes: int, body_bytes: int) -> None:
        self._head_bytes = header_bytes
        self._body_bytes = body_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self.in_body = False
        self.complete = False
        self._expects = False
        self._body_begun = False
        self._headers: RawHeaders = []
        # Values of the headers in _READ_HERE.
        self._fields: dict[bytes, list[bytes]] = {}
        self._request_line = b""
        self._target = b""
        self._method = ""
        self._version = "1.1"
        self._keep_alive = False
        self._in_framing = False
        self._chunked = False
        self._remaining = 0
        self._in_line = False
        self._in_trailers = False
        self._line = b""
        self._lines = 0
        self._body = bytearray()
        self._size = 0
        # The last bytes of the head so far: the blank line may be split between two segments.
        self._seam = b""

    def close(self) -> None:
        """Stop reading. Repeated calls are harmless."""
        # The parser references methods of this object: a cycle.
        self._parser = _NO_PARSER

    @property
    def begun(self) -> bool:
        """Whether part of a request has been read."""
        return self._size > 0

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for 100 Continue before it sends the content (RFC 9110, 10.1.1)."""
        return self._expects and self.in_body and not self._body_begun

    def feed(self, data: bytes) -> tuple[Request | None, bytes]:
        """Read ``data``. Return the request, once complete, and the unread rest of ``data``.

        Raises:
            RequestRefused: it is not HTTP/1.1, or too large; the end of the message is unknown, so the connection must end.
        """
        while data:
            data = self._feed_body(data) if self.in_body else self._feed_head(data)
            if self.complete:
                request = Request(
                    self._method,
                    self._target,
                    self._version,
                    self._headers,
                    self._keep_alive,
                    self._parser.should_upgrade() or self._in_framing,
                    self.in_body,
                    bytes(self._body),
                )
                if self._in_framing or self._chunked:
                    # After trailers too: a trailer named Connection would make llhttp end whatever follows.
                    self._parser = httptools.HttpRequestParser(self)
                self._reset()
                return request, data
        return None, b""

    def _feed_head(self, data: bytes) -> bytes:
        """Read up to the blank line that ends the head."""
        joined = self._seam + data
        blank = joined.find(_BLANK_LINE)
        end = len(data) if blank < 0 else blank + len(_BLANK_LINE) - len(self._seam)
        self._size += end
        if self._size > self._head_bytes:
            raise RequestRefused(431, f"the head of a request has at most {self._head_bytes} bytes")
        self._seam = joined[-3:] if blank < 0 else b""
        if not self._request_line.endswith(b"\n"):
            line, end_of_line, _ = (self._request_line + data[:end]).lstrip(b"\r\n").partition(b"\n")
            self._request_line = line + end_of_line
        offer = self._parse(data[:end])
        if self._method:
            self._begin_body()
            if self.in_body and self.complete:
                # llhttp treats an upgrade offer as accepted and the message as over, but that is the server's decision (RFC
                # 9110, 7.8).
                self.complete = False
                self._read_framing()
            elif offer and not self.complete:
                raise RequestRefused(400, "invalid message framing")
        return data[end:]

    def _feed_body(self, data: bytes) -> bytes:
        """Read up to the end of the content, or of the chunk."""
        self._body_begun = True
        if self._in_line:
            return self._feed_line(data)
        end = min(self._remaining, len(data))
        self._remaining -= end
        self._in_line = self._chunked and not self._remaining
        self._parse(data[:end])
        return data[end:]

    def _feed_line(self, data: bytes) -> bytes:
        """Read a chunk's size line, a trailer, or the empty line that ends the message (RFC 9112, 7.1)."""
        end = data.find(b"\n") + 1 or len(data)
        self._line += data[:end]
        if len(self._line) > self._head_bytes:
            raise RequestRefused(400, "invalid message framing: the line of a chunk is too long")
        self._parse(data[:end])
        if self._line.endswith(b"\n") and not self.complete:
            line, self._line = self._line, b""
            self._begin_chunk(line)
        return data[end:]

    def _begin_chunk(self, line: bytes) -> None:
        self._lines += 1
        if self._lines > MAX_CHUNKS:
            raise RequestRefused(413, f"a body has at most {MAX_CHUNKS} chunks: send larger ones")
        if self._in_trailers:
            return
        size = _CHUNK_SIZE.match(line)
        if size is None:
            raise RequestRefused(400, "invalid message framing: a chunk has no size")
        self._remaining = int(size[1], 16)
        if self._remaining > self._body_bytes:
            raise self._too_large()
        self._in_trailers = not self._remaining
        if self._remaining:
            self._remaining += len(b"\r\n")
            self._in_line = False

    def _begin_body(self) -> None:
        """Determine how the content is framed, and whether it is acceptable, after the head."""
        if self._method == "CONNECT":
            raise RequestRefused(400, "CONNECT rejected: this server is not a proxy")
        if not self._request_line.rpartition(b" ")[2].startswith(b"HTTP/"):
            # llhttp also accepts RTSP and ICE, silently.
            raise RequestRefused(400, "not a request of HTTP/1.1")
        if self._version not in _VERSIONS:
            raise RequestRefused(400, "unsupported HTTP version: use HTTP/1.1")
        self._check_host()
        coding = self._values(b"transfer-encoding")
        if coding and (len(coding) > 1 or coding[0].lower() != b"chunked" or self._version == "1.0"):
            raise RequestRefused(400, "unsupported Transfer-Encoding: use chunked, once")
        self._chunked = self._in_line = bool(coding)
        for length in self._values(b"content-length")[:1]:
            if not _LENGTH.match(length):
                raise RequestRefused(400, "invalid message framing: Content-Length is not a number")
            self._remaining = int(length)
            if self._remaining > self._body_bytes:
                raise self._too_large()
        self._expects = self._version != "1.0" and [v.lower() for v in self._values(b"expect")] == [b"100-continue"]
        self.in_body = self._chunked or self._remaining > 0

    def _values(self, wanted: bytes) -> list[bytes]:
        return self._fields.get(wanted, [])

    def _check_host(self) -> None:
        """Check that there is one Host, and that a target in absolute-form names the same (RFC 9112, 3.2)."""
        hosts = self._values(b"host")
        if len(hosts) > 1 or (not hosts and self._version != "1.0") or not all(map(_HOST.match, hosts)):
            raise RequestRefused(400, "send exactly one valid Host header")
        scheme, absolute, rest = self._target.partition(b"://")
        if not absolute or b"/" in scheme:
            return
        named = rest.partition(b"/")[0].partition(b"?")[0].lower()
        if not named.partition(b":")[0]:
            # RFC 9110, 4.2.1.
            raise RequestRefused(400, "the request target names no host")
        if [host.lower() for host in hosts] != [named]:
            raise RequestRefused(400, "the request target and Host name different hosts")

    def _read_framing(self) -> None:
        """Continue with a parser that got no upgrade offer."""
        self._in_framing = True
        self._parser = httptools.HttpRequestParser(self)
        lines = b"".join(b"%b: %b\r\n" % header for header in self._headers if header[0] in _FRAMING)
        self._parse(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")

    def _too_large(self) -> RequestRefused:
        return RequestRefused(413, f"a body has at most {self._body_bytes} bytes")

    def _parse(self, part: bytes) -> bool:
        """Feed llhttp. Return whether it stopped at an upgrade offer.

        Raises:
            RequestRefused: a callback raised it, or llhttp can't parse ``part``.
        """
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, RequestRefused):
                raise error.__context__ from None
            raise RequestRefused(400, "not a request of HTTP/1.1") from None
        return False

    def on_message_begin(self) -> None:
        """Callback of llhttp: the first byte of a request."""
        if self.complete:
            # The last message ended without a line end of HTTP, so llhttp's end differs from this reader's.
            raise RequestRefused(400, "invalid message framing")

    def on_url(self, url: bytes) -> None:
        """Callback of llhttp: part of the request target."""
        if not self._in_framing:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Callback of llhttp: a header, or a trailer, which is ignored (RFC 9110, 6.5.1)."""
        if self.in_body or self._in_framing:
            return
        if len(self._headers) >= MAX_HEADERS:
            raise RequestRefused(431, f"a request has at most {MAX_HEADERS} headers")
        name, value = name.lower(), value.strip(b" \t")
        self._headers.append((name, value))
        if name in _READ_HERE:
            self._fields.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        """Callback of llhttp: the end of the head."""
        if self._in_framing:
            return
        self._method = self._parser.get_method().decode("ascii")
        self._version = self._parser.get_http_version()
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Callback of llhttp: part of the content."""
        if not self.in_body:
            raise RequestRefused(400, "invalid message framing")
        self._body += body
        if len(self._body) > self._body_bytes:
            raise self._too_large()

    def on_message_complete(self) -> None:
        """Callback of llhttp: the end of a request."""
        self.complete = True
