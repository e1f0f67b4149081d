"""Names of raters that may stand in files: pseudonyms, never addresses of mail."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from palate.data import cells
from palate.data.cells import invalid
from palate.data.judge_names import judge_name

_ADDRESS = re.compile(r"\S@[\w.-]+\.[^\W\d_]{2,}")
_PROGRAMS = frozenset({"model", "rule", "simulated"})


def is_address(rater: str, kind: str = "person") -> bool:
    """Return whether a rater's name holds an address of mail. A program's may hold an @, as in `model@revision`, but no address.

    A name in the form of a judge's is a program's, whatever `kind` says: files of judgments do not hold the kind of their raters.
    """
    plain = unicodedata.normalize("NFKC", rater)
    is_program = kind in _PROGRAMS or judge_name(plain) is not None
    return bool(_ADDRESS.search(plain)) if is_program else "@" in plain


def pseudonym(value: object, field: str, kind: str = "person") -> str:
    """The name of a rater: a text that is not blank, or a whole number. Raises InvalidRow for another type and for an address."""
    rater = cells.name(value, field)
    if is_address(rater, kind):
        raise invalid(field, "is an email address; export numbers, or replace it by a pseudonym")
    return rater


def masked(rater: str, kind: str = "person") -> str:
    """The rater's name as a file may hold it. An address becomes a digest, the same for equal addresses."""
    return hidden(rater) if is_address(rater, kind) else rater


def hidden(rater: str) -> str:
    """A digest that stands for a rater's name, the same for equal names."""
    return f"rater~{hashlib.sha256(rater.encode()).hexdigest()[:12]}"
