"""Put each page of the site beside itself as Markdown, with `llms.txt`, the list of them: `make site` runs it after the build."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]


def pages(nav: list[dict[str, Any]], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (headings above, title, file below docs/) of each page of the site's navigation, in its order."""
    for entry in nav:
        for title, inside in entry.items():
            if isinstance(inside, str):
                yield above, title, inside
            else:
                yield from pages(inside, (*above, title))


def first_sentence(text: str) -> str:
    """Return the first sentence of a page below its heading, without marks of Markdown."""
    body = re.sub(r"^```.*?^```", "", text.partition("\n")[2], flags=re.DOTALL | re.MULTILINE)
    paragraph = next(part for part in re.split(r"\n\s*\n", body) if part.strip() and not part.startswith(("    ", "#", "<")))
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", " ".join(paragraph.split()))
    return re.split(r"(?<=[.:])\s", plain)[0].rstrip(":")


def llms_text(settings: dict[str, Any]) -> str:
    """Return `llms.txt` (llmstxt.org): what Palate is, and a line for each page."""
    lines, last = [f"# {settings['site_name']}", "", f"> {settings['site_description']}"], None
    for above, title, file in pages(settings["nav"]):
        if above[:1] != last:
            lines += ["", f"## {above[0] if above else 'Palate'}", ""]
            last = above[:1]
        lines.append(f"- [{title}]({file}): {first_sentence((ROOT / 'docs' / file).read_text(encoding='utf-8'))}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write into the folder of the built site."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    site = ROOT / settings["site_dir"]
    for _, _, file in pages(settings["nav"]):
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / "docs" / file, site / file)
    (site / "llms.txt").write_text(llms_text(settings), encoding="utf-8")


if __name__ == "__main__":
    main()
