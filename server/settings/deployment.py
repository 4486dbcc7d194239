"""Settings of the place where a server runs: what it listens on, what stands in front of it, and which pages use it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from interlock.server.settings.types import BasePath, Origin, SiteData, doc, wanted


class DeploymentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where clients find the server, and through what."""

    demo: Annotated[
        bool,
        doc(
            "Serve a demo page at /demo and the realms `notes` and `agent` of interlock.examples, and print a tour: to look"
            " around, not for production."
        ),
    ] = False
    login_page: Annotated[bool, doc("Serve the login page at /login. Turn it off if your application has its own.")] = (
        True
    )
    host: Annotated[str, Meta(min_length=1), doc("Address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535), doc("Port to listen on; 0 chooses a free one.")] = 8700
    unix_socket: Annotated[
        str,
        doc(
            "Path of a Unix socket to listen on instead of `host` and `port`. Its owner's group may connect; a peer counts as"
            " 127.0.0.1. Empty: none."
        ),
    ] = ""
    base_path: Annotated[
        BasePath,
        doc(
            "Path below which the server answers, such as /auth; a proxy passes paths on unchanged. Empty: at the root of its"
            " host."
        ),
    ] = ""
    origins: Annotated[
        tuple[Origin, ...],
        doc(
            "Browser origins, besides the server's own, whose pages may open WebSockets, post, and read responses (CORS);"
            " comma-separated."
        ),
    ] = ()
    web_view_origins: Annotated[
        tuple[Origin, ...],
        doc(
            "Origins of apps' web views, such as capacitor://localhost, whose pages may do the same, but get the refresh token"
            " in the body and no cookie; comma-separated."
        ),
    ] = ()
    clear_site_data: Annotated[
        tuple[SiteData, ...],
        doc(
            "What a browser deletes of the server's origin when a page logs out (`Clear-Site-Data`): cache, storage;"
            " comma-separated; empty: nothing."
        ),
    ] = ("cache", "storage")
    trusted_proxies: Annotated[
        tuple[str, ...],
        doc("Proxies (addresses or networks) whose header is trusted for the client's address; comma-separated."),
    ] = ()
    forwarded_header: Annotated[
        str,
        wanted("x-forwarded-for or forwarded", "^(x-forwarded-for|forwarded)$"),
        doc("That header: x-forwarded-for or forwarded. The other one is not read."),
    ] = "x-forwarded-for"
    forward_auth_request: Annotated[
        str,
        wanted("x-forwarded, x-original or envoy", "^(x-forwarded|x-original|envoy)$"),
        doc(
            "How the proxy describes the request that it asks forward-auth about: x-forwarded (X-Forwarded-Method, -Host and"
            " -Proto), x-original (X-Original-Method, X-Original-URL: ingress-nginx), or envoy (the request's own method and"
            " Host, its path behind /api/forward-auth)."
        ),
    ] = "x-forwarded"
    forward_auth_preflights: Annotated[
        bool,
        doc(
            "Forward-auth lets CORS preflights pass without a session or an identity: the application answers them. Use it only"
            " if the proxy sets the method of `forward_auth_request` itself."
        ),
    ] = False

    @property
    def page_origins(self) -> tuple[str, ...]:
        """The origins, besides the server's own, of all pages that may call the API and open WebSockets."""
        return self.origins + self.web_view_origins
