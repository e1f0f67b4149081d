"""Hugging Face models as policies and scalar models over packed trees."""

from palate.core.packages import require_version

OLDEST = {"torch": (2, 6), "transformers": (5, 0), "peft": (0, 18), "safetensors": (0, 4, 5)}
"""The oldest releases that fit; pyproject.toml says the same to installers."""

for _package, _oldest in OLDEST.items():
    require_version(_package, _oldest, "a stage with models")
