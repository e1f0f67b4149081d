"""Which extra of Palate brings a package that is not installed."""

from __future__ import annotations

from palate.core import ConfigError

EXTRAS = {
    "train": ("huggingface_hub", "matplotlib", "peft", "pyarrow", "safetensors", "tokenizers", "torch", "transformers"),
    "label": (
        "alembic", "argon2", "fastapi", "h11", "httptools", "markdown_it", "multipart", "sqlalchemy", "starlette", "uvicorn", "uvloop",
    ),
}  # fmt: skip
"""The modules that come with each extra. Other extras are for one feature each, and the code of that feature names them."""

BOTH = frozenset({"palate serve", "palate judge"})
"""Commands that need both."""


def not_installed(what: str, error: ModuleNotFoundError) -> ConfigError | None:
    """Return the message for a package that is missing; None where no extra brings it, which is a mistake in some code.

    Args:
        what: the command or the stage that needs it.
        error: what the import raised.
    """
    module = (error.name or "").split(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
    if extra is None:
        return None
    wanted = ",".join(EXTRAS) if what in BOTH else extra
    return ConfigError(f"{what} needs {module}, which is not installed. Run: pip install 'palate[{wanted}]'")
