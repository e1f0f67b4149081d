"""Links to models: when `palate use` lets one name another run, the server loads that run and goes on with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from palate.core import PalateError
from palate.serving.answering import ServedModel

POLL_SECONDS = 2.0
"""How often links are looked at."""

log = logging.getLogger("palate.serving")


class ModelFollower:
    """Looks at the paths of the served models, and loads them again when one names something else."""

    def __init__(
        self,
        paths: Sequence[str],
        load: Callable[[ServedModel], ServedModel],
        after_swap: Callable[[], None] = lambda: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Follow the paths.

        Args:
            paths: the policy's, and those of the reward models.
            load: returns the served model with what the paths name now.
            after_swap: called when the models before have gone.
            poll_seconds: how often to look.
        """
        self._paths, self._load, self._after_swap, self._poll_seconds = paths, load, after_swap, poll_seconds
        self._seen = self._named()

    async def follow(self, current: Callable[[], ServedModel], use: Callable[[ServedModel], None]) -> None:
        """Look until cancelled. Requests under way end with the model that they began with.

        A model that cannot be loaded is logged, and the one before goes on.
        """
        while True:
            await asyncio.sleep(self._poll_seconds)
            named = self._named()
            if named == self._seen:
                continue
            self._seen, before = named, current()
            try:
                new = await asyncio.to_thread(self._load, before)
            except PalateError as error:
                log.error("the model in use stays, because the new one cannot be loaded: %s", str(error))
                continue
            use(new)
            log.warning("%s is now %s", new.name, ", ".join(map(str, named)))
            while before.source.load.active or before.source.load.waiting:
                await asyncio.sleep(self._poll_seconds)
            await asyncio.to_thread(before.close_models)
            del before, new
            self._after_swap()

    def _named(self) -> list[Path]:
        return [Path(path).resolve() for path in self._paths]
