"""HTML documents: templates, and the headers that a document needs and no other response.

A page runs only scripts and styles of this server, and no inline ones: its data stands in elements, and its behaviour in
modules under ``static/``. Every template extends ``base.html``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.template import TemplateConfig

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of documents (CSP level 3): nothing of another origin, nothing inline, no frames (ASVS 3.4.3)."""

_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TEMPLATES: Final = Path(__file__).parent / "templates"


def template_config(base_path: str, **offered: bool) -> TemplateConfig[JinjaTemplateEngine]:
    """Return the engine of the pages: text is escaped, and a name that is not given is an error.

    Each template has ``base``, the path that begins every link to this server, and the names in ``offered``: whether there
    is a page for it.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Templates change with the release only; otherwise each page looks at the files of all that it extends.
        auto_reload=False,
    )
    environment.globals |= {"base": base_path, **offered}
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def page(template: str, /, **context: Any) -> Template:
    """Return the document of ``templates/<template>``. ``context``: the names that it uses."""
    return Template(template, context=context, headers=dict(_HEADERS), media_type="text/html")
