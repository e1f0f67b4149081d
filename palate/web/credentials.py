"""Passwords and tokens. Argon2id hashes what people choose, SHA-256 hashes random tokens."""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from palate.core import ConfigError

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256
LONGEST_NAME = 64
INVISIBLE = (
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Characters that Unicode calls printable but fonts do not draw: fillers, joiners, selectors, the blank of Braille."""

COMMON = frozenset(
    """1234567890 12345678910 0123456789 1q2w3e4r5t 1qaz2wsx3edc qwertyuiop qwerty12345 qwerty123456 password12 password123 password1234
    passw0rd123 iloveyou123 letmein123 welcome123 welcome1234 administrator changeme123 palatepalate""".split()  # noqa: SIM905
)

Tokens = Callable[[], str]
"""A source of secrets: each call returns a new one that nobody can guess."""


def hashed(token: str, use: str) -> str:
    """Return the hex SHA-256 under which a token is stored. `use` keeps a cookie's token from working as an API key, and the reverse."""
    return hashlib.sha256(f"{use}:{token}".encode()).hexdigest()


def check_name(name: str) -> str:
    """Return the name with surplus spaces removed.

    Raises:
        ConfigError: it is empty, too long, or has invisible characters.
    """
    name = " ".join(name.split())
    if not name or len(name) > LONGEST_NAME:
        raise ConfigError(f"A name has 1 to {LONGEST_NAME} characters.")
    if not name.isprintable() or re.search(INVISIBLE, name) or not any(unicodedata.category(char)[0] in "LNSP" for char in name):
        raise ConfigError("The name has characters that cannot be seen. Leave them out.")
    return name


def check_password(password: str, name: str) -> None:
    """Refuse a password that would be guessed early.

    Raises:
        ConfigError: it is short, too long, common, one repeated character, or holds the name.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigError(f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters. A sentence of four words is good.")
    plain = password.casefold()
    if plain in COMMON or len(set(plain)) < 4:
        raise ConfigError("This password is one of the first that an attacker tries. Use a sentence of four words.")
    if len(name) > 3 and name.casefold() in plain:
        raise ConfigError("The password contains the name. Use a sentence of four words.")


@dataclass(frozen=True)
class Passwords:
    """Argon2id with RFC 9106's second choice of parameters (64 MiB, 3 passes).

    Attributes:
        hasher: computes the hashes.
        concurrency: most hashes that are computed at a time, so that a flood of sign-ins cannot take all memory.
    """

    hasher: PasswordHasher = field(default_factory=PasswordHasher)
    concurrency: int = 2
    _gate: threading.Semaphore = field(init=False, repr=False)
    _nobody: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_gate", threading.Semaphore(self.concurrency))
        object.__setattr__(self, "_nobody", self.hasher.hash("the password of nobody"))

    def hash(self, password: str) -> str:
        """Return the text to store: algorithm, parameters, salt and hash."""
        with self._gate:
            return self.hasher.hash(password)

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password matches the stored hash. Without a hash it takes as long, so the time does not reveal which names exist."""
        if len(password) > LONGEST_PASSWORD:
            return False
        with self._gate:
            try:
                is_right = self.hasher.verify(stored or self._nobody, password)
            except (VerificationError, InvalidHashError):
                return False
        return is_right and bool(stored)

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self.hasher.check_needs_rehash(stored)
