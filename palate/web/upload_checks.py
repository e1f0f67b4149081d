"""What is odd about items that come in, and yet no reason to refuse them; and the one that is: media of which nothing is there."""

from __future__ import annotations

from pathlib import Path

from palate.core import DataError
from palate.data.exchange import Exchange
from palate.data.exchange.contents import is_shown
from palate.web.media import media_file

NAMED = 3
"""How many missing files are named."""


def remarks(exchange: Exchange, folder: Path | None) -> tuple[str, ...]:
    """What whoever brings the items should know, a sentence each: media that are missing, prompts and completions without a word.

    Args:
        exchange: what a file said.
        folder: where media are served from; None: nowhere.

    Raises:
        DataError: the items name media, and none of them is there.
    """
    candidates = [one for item in exchange.items for one in item.candidates]
    named = list(dict.fromkeys(one.media for one in candidates if one.media and is_shown(one.media)))
    missing = [name for name in named if media_file(folder, name) is None]
    if missing and len(missing) == len(named):
        where = f"none of them is in the media folder {folder}" if folder else "the server was started without --media"
        raise DataError(f"The items name {len(named)} media files such as {missing[0]!r}, and {where}. Nothing was added.")
    prompts = sum(bool(item.conversation) and not item.conversation[-1].text.strip() for item in exchange.items)
    blank = sum(not one.text.strip() and not one.media for one in candidates)
    told = []
    if missing:
        first, more = ", ".join(missing[:NAMED]), ", ..." if len(missing) > NAMED else ""
        told.append(f"{len(missing)} of {len(named)} media files are missing in the media folder: {first}{more}")
    if prompts:
        told.append(f"{prompts} {'prompt is' if prompts == 1 else 'prompts are'} empty")
    if blank:
        told.append(f"{blank} {'completion is' if blank == 1 else 'completions are'} blank")
    return tuple(told)
