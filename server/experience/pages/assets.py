"""The files that pages load: read once at start, served from memory with a validator, compressed if the browser takes it."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

_MEDIA_TYPES: Final = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".ts": "text/plain",
    ".svg": "image/svg+xml",
}
"""The types that a folder of assets may hold; other files in it are not served."""

_NOT_MODIFIED: Final = 304
_GZIP: Final = re.compile(r"\bgzip\b(?![ \t]*;[ \t]*q=0(\.0*)?[ \t]*(,|$))", re.IGNORECASE)
"""In an Accept-Encoding, unless it is refused (RFC 9110, 12.5.3)."""


class Asset(msgspec.Struct, frozen=True):
    """A file as it is served."""

    media_type: str
    content: bytes
    compressed: bytes
    etag: str

    @classmethod
    def read(cls, path: Path) -> Asset:
        """Return the file at ``path``."""
        content = path.read_bytes()
        digest = sha256(content).hexdigest()[:32]
        return cls(_MEDIA_TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0), f'"{digest}"')


def assets_under(prefix: str, folder: Path) -> ControllerRouterHandler:
    """Return the handler of the files in ``folder``, each at ``prefix/<name>``. Browsers ask each time if one has changed."""
    served = {
        f"{prefix}/{path.name}": Asset.read(path) for path in sorted(folder.iterdir()) if path.suffix in _MEDIA_TYPES
    }

    @get(list(served), include_in_schema=False, sync_to_thread=False)
    def get_asset(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Get a file that a page loads, or 304 if the browser has it (RFC 9110, 13.1.2)."""
        asset = served[request.scope["path"]]
        # A weak or strong tag, or one of several: the tag is all that is compared.
        known = asset.etag in request.headers.get("if-none-match", "")
        headers = {"cache-control": "no-cache", "etag": asset.etag, "vary": "Accept-Encoding"}
        if known:
            return Response(b"", status_code=_NOT_MODIFIED, headers=headers, media_type=asset.media_type)
        content = asset.content
        if _GZIP.search(request.headers.get("accept-encoding", "")):
            content, headers["content-encoding"] = asset.compressed, "gzip"
        return Response(content, headers=headers, media_type=asset.media_type)

    return get_asset
