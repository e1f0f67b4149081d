"""The description on a package index: README.md, whose relative links would lead nowhere there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VERSION = re.compile(r'^__version__ = "([^"]+)"$', flags=re.MULTILINE)
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)]+)\)")
TAG = re.compile(r"<p align=\"center\"><img src=\"([^\"]+)\"[^>]*></p>\n*")


class ReadmeHook(MetadataHookInterface):
    """Makes the description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the description into the metadata."""
        root = Path(self.root)
        version = VERSION.search((root / "palate" / "__init__.py").read_text(encoding="utf-8"))
        assert version is not None
        source = metadata.get("urls", {}).get("Source", "")
        text = description((root / "README.md").read_text(encoding="utf-8"), source, f"v{version[1]}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def description(readme: str, source: str, tag: str) -> str:
    """Return the README with absolute links.

    Args:
        readme: its text.
        source: address of the repository, whose files are below `blob/` and `raw/`. Without one, links become plain text and pictures go.
        tag: the version's tag there.
    """

    def image(match: re.Match[str]) -> str:
        if not is_relative(match[1]):
            return match[0]
        return match[0].replace(match[1], f"{source}/raw/{tag}/{match[1]}") if source else ""

    def link(match: re.Match[str]) -> str:
        if not is_relative(match[2]):
            return match[0]
        return f"[{match[1]}]({source}/blob/{tag}/{match[2]})" if source else match[1]

    text = LINK.sub(link, IMAGE.sub(image, TAG.sub(image, readme)))
    return re.sub(r"\n{3,}", "\n\n", text)


def is_relative(target: str) -> bool:
    """Whether a link leads to a file of the repository."""
    return "://" not in target and not target.startswith(("#", "mailto:"))
