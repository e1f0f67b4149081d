"""Upload files to a repository of a model hub, in one commit. Before that nothing is written, there or here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from palate.core import ConfigError, PalateError, RunError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEEDED = "Install palate[hub]."
OFFLINE = "HF_HUB_OFFLINE"
"""Environment variable that forbids the network."""


@dataclass(frozen=True)
class HubFile:
    """A file to upload.

    Attributes:
        name: its path in the repository.
        content: the file, or its bytes.
    """

    name: str
    content: Path | bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True)
class HubRepository:
    """A repository of a hub, by name, and the account that writes to it.

    Attributes:
        name: OWNER/NAME.
        endpoint: the hub's address.
        token: the account's secret.
        revision: the branch to commit to; it is made where it does not exist.
        private: only its owner may see a repository that is made. One that exists must be private already.
    """

    name: str
    endpoint: str
    token: str
    revision: str = "main"
    private: bool = False

    @staticmethod
    def of(name: str, *, revision: str | None = None, private: bool = False) -> HubRepository:
        """Return the repository as environment and sign-in say. This asks the hub who the account is, and writes nothing.

        Raises:
            ConfigError: huggingface_hub is missing, the network is forbidden, or nobody is signed in, or the hub refuses the token.
            RunError: the hub does not answer.
        """
        try:
            from huggingface_hub import constants, get_token
        except ImportError as error:
            raise ConfigError(f"palate push needs {error.name}. {NEEDED}") from error
        if os.environ.get(OFFLINE, "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise ConfigError(f"{OFFLINE} is set, so nothing may be uploaded. Unset it, or look at the files with --dry-run.")
        endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        token = os.environ.get("HF_TOKEN") or get_token()
        if not token:
            raise ConfigError(f"nobody is signed in to {endpoint}. Type `hf auth login`, or put a token that may write into HF_TOKEN.")
        repository = HubRepository(name, endpoint, token, revision or "main", private)
        with repository.errors("Nothing was written"):
            repository.api.whoami()
        return repository

    @property
    def api(self) -> HfApi:
        """The hub's API."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token, library_name="palate")

    def upload(self, files: Sequence[HubFile], message: str) -> str:
        """Make repository and branch where they are missing, commit all files at once, and return the address of the commit.

        Raises:
            ConfigError: it should be private and is public, or the account may not write there.
            RunError: the hub does not answer, or refuses the upload. Then nothing was committed.
        """
        from huggingface_hub import CommitOperationAdd

        api = self.api
        with self.errors("No file was committed"):
            api.create_repo(self.name, private=self.private or None, exist_ok=True)
            if self.private and not api.repo_info(self.name).private:
                raise ConfigError(
                    f"{self.name} exists already and is public, so --private would not hold. Make it private on the hub, or name another "
                    "repository."
                )
            if self.revision != "main":
                api.create_branch(self.name, branch=self.revision, exist_ok=True)
            additions = [CommitOperationAdd(one.name, one.content) for one in files]
            return api.create_commit(self.name, additions, commit_message=message, revision=self.revision).commit_url

    @contextmanager
    def errors(self, state: str) -> Iterator[None]:
        """A context in which what a hub raises becomes one message. `state` says what was written."""
        from huggingface_hub.errors import HfHubHTTPError

        # Each version of huggingface_hub has another HTTP library, whose errors have this base.
        transport: type[Exception] = HfHubHTTPError.__bases__[0]
        try:
            yield
        except PalateError:
            raise
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in {401, 403}:
                raise ConfigError(
                    f"{self.endpoint} refuses the token ({status}): it is not valid, or may not write to {self.name}. {state}. Type "
                    "`hf auth login` with a token that may write."
                ) from error
            raise RunError(f"{self.endpoint} answered {status} ({_first_line(error)}). {state}. Try the same command again.") from error
        except ValueError as error:
            raise RunError(f"{self.endpoint} refuses the upload ({_first_line(error)}). {state}.") from error
        except (transport, OSError, RuntimeError) as error:
            raise RunError(
                f"{self.endpoint} cannot be reached ({_first_line(error)}). {state}. Check the network, or use --dry-run."
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
