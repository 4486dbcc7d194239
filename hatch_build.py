"""The README as a package's metadata holds it: read outside the repository, where no relative link leads anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from hatchling.metadata.plugin.interface import MetadataHookInterface

_CODE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\((?!https?://|#)[^)\s]*\)")


def self_contained(readme: str) -> str:
    """``readme`` with the text alone of each link and image that leads into the repository."""
    parts = _CODE.split(readme)
    return "".join(part if part.startswith("```") else _LINK.sub(r"\1", part) for part in parts)


class ReadmeHook(MetadataHookInterface):
    """Hatchling asks this for what pyproject.toml calls dynamic."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README to ``metadata``."""
        text = (Path(self.root) / "README.md").read_text()
        metadata["readme"] = {"content-type": "text/markdown", "text": self_contained(text)}
