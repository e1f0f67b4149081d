"""A project in which people judge, as a stage that trains uses it: over HTTP from a rating server, or in the server's database."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, cast
from urllib.parse import quote

from palate.clients.http import Endpoint, RequestFailed, key_header
from palate.core import ConfigError, DataError, RunError
from palate.data.exchange import Exchange, ExchangeItem, read_exchange
from palate.data.exchange.lossless import VERSION, item_row

LONGEST_ANSWER = 1 << 30
"""Bytes of the largest project that is read from a server."""

TASKS = ("compare", "rank")
"""Tasks in which people compare two answers."""


class ProjectUnavailable(RunError):  # noqa: N818 (a state that callers wait out, not a fault of this program)
    """The project cannot be reached now, or did not take what was sent. The text says why."""


class RatingProject(Protocol):
    """A project in which people compare answers."""

    def check(self) -> None:
        """Check that the project is there and asks about pairs.

        Raises:
            ConfigError: there is no such project, it asks something else, or this key may not use it.
            ProjectUnavailable: the server or the database does not answer.
        """
        ...

    def add(self, items: Sequence[ExchangeItem]) -> None:
        """Add the items. Those that the project has already are not added twice, so the same call can be repeated.

        Raises:
            ProjectUnavailable: they are not known to be there.
        """
        ...

    def read(self) -> Exchange:
        """Return everything that the project holds.

        Raises:
            ProjectUnavailable: it cannot be read.
        """
        ...


def rating_project(url: str, project: str, key_variable: str | None, timeout_seconds: float) -> RatingProject:
    """Return the project of this name, on the rating server at an http(s) address, or in the database at another one.

    Nothing is asked yet.

    Raises:
        ConfigError: the address cannot be read, or the variable holds no key.
    """
    if not url.startswith(("http://", "https://")):
        return DatabaseProject(url, project)
    Endpoint.of("held_out.people", url)
    return ServerProject(url.rstrip("/"), project, key_header("held_out.people", key_variable), timeout_seconds)


@dataclass(frozen=True)
class ServerProject:
    """A project on a rating server. The key must be an owner's.

    Attributes:
        url: the server's address.
        name: the project's name.
        headers: the header with the key.
        timeout_seconds: for one request, with what is tried again.
    """

    url: str
    name: str
    headers: Mapping[str, str]
    timeout_seconds: float

    def check(self) -> None:
        """See `RatingProject`."""
        _check_task(self.name, self._found())

    def add(self, items: Sequence[ExchangeItem]) -> None:
        """See `RatingProject`."""
        rows = [{"palate": "exchange", "version": VERSION, "name": self.name}, *({"item": item_row(item)} for item in items)]
        try:
            self._post(f"/api/projects/{self._id()}/items", {"items": rows})
        except ConfigError as error:
            raise ProjectUnavailable(str(error)) from error

    def read(self) -> Exchange:
        """See `RatingProject`."""
        try:
            content = self._get(f"/api/projects/{self._id()}/judgments?kind=palate")
        except ConfigError as error:
            raise ProjectUnavailable(str(error)) from error
        with tempfile.TemporaryDirectory(prefix="palate-people-") as folder:
            file = Path(folder) / "judgments.jsonl"
            file.write_bytes(content)
            try:
                return read_exchange(file)
            except DataError as error:
                raise ProjectUnavailable(f"{self.url} sent what is not a project: {error}".replace(f"{folder}/", "")) from error

    def _id(self) -> str:
        return quote(str(self._found()["id"]), safe="")

    def _found(self) -> Mapping[str, object]:
        """Return the project as the server describes it."""
        content = self._get("/api/projects")
        try:
            listed = [cast("Mapping[str, object]", row) for row in json.loads(content)]
            found = next((row for row in listed if row["name"] == self.name), None)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"held_out.people.url: {self.url} is not a rating server. Give the address that `palate label` prints."
            ) from error
        if found is None:
            raise _missing(self.name, self.url, [str(row["name"]) for row in listed])
        return found

    def _get(self, path: str) -> bytes:
        endpoint = replace(Endpoint.of("held_out.people", self.url + path), max_bytes=LONGEST_ANSWER)
        return self._asked(partial(endpoint.get, self.headers, time.monotonic() + self.timeout_seconds))

    def _post(self, path: str, content: object) -> bytes:
        endpoint = Endpoint.of("held_out.people", self.url + path)
        return self._asked(partial(endpoint.send, content, self.headers, time.monotonic() + self.timeout_seconds))

    def _asked(self, ask: partial[bytes]) -> bytes:
        try:
            return ask()
        except RequestFailed as error:
            if error.status in {401, 403}:
                raise ConfigError(
                    f"held_out.people: {self.url} refuses the key ({error}). Make one on the page My data of an owner's "
                    "account, and put it into the environment variable that held_out.people.key_variable names."
                ) from error
            if error.is_temporary or error.kind == "timeout":
                raise ProjectUnavailable(f"{self.url} {error}") from error
            raise ConfigError(f"held_out.people.url: {self.url} {error}. Give the address that `palate label` prints.") from error


@dataclass(frozen=True)
class DatabaseProject:
    """A project in the database of a rating server.

    Attributes:
        url: the database's path or address.
        name: the project's name.
    """

    url: str
    name: str

    def check(self) -> None:
        """See `RatingProject`."""
        from palate.ratings import use_ratings

        try:
            with use_ratings(self.url) as ratings:
                projects = list(ratings.projects())
        except RunError as error:
            raise ProjectUnavailable(str(error)) from error
        found = next((one for one in projects if one.name == self.name), None)
        if found is None:
            raise _missing(self.name, "the database", [one.name for one in projects])
        _check_task(self.name, {"task": {"kind": found.task.kind}})

    def add(self, items: Sequence[ExchangeItem]) -> None:
        """See `RatingProject`."""
        from palate.ratings import use_ratings

        try:
            with use_ratings(self.url) as ratings:
                if all(one.name != self.name for one in ratings.projects()):
                    raise _missing(self.name, "the database", [])
                ratings.import_exchange(Exchange(tuple(items)), self.name, time.time())
        except (ConfigError, DataError, RunError) as error:
            raise ProjectUnavailable(str(error)) from error

    def read(self) -> Exchange:
        """See `RatingProject`."""
        from palate.ratings import use_ratings

        try:
            with use_ratings(self.url) as ratings:
                found = next((one for one in ratings.projects() if one.name == self.name), None)
                if found is None:
                    raise _missing(self.name, "the database", [])
                return ratings.as_exchange(found.id)
        except (ConfigError, DataError, RunError) as error:
            raise ProjectUnavailable(str(error)) from error


def _missing(name: str, where: str, known: Sequence[str]) -> ConfigError:
    others = f" It has {', '.join(known[:5])}." if known else ""
    return ConfigError(
        f"held_out.people.project: {where} has no project {name!r}.{others} Make it on the page Projects with the task compare."
    )


def _check_task(name: str, project: Mapping[str, object]) -> None:
    kind = cast("Mapping[str, object]", project["task"])["kind"]
    if kind not in TASKS:
        raise ConfigError(f"held_out.people.project: {name} has the task {kind}, and pairs need compare. Name another project.")
