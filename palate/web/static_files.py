"""The folder of scripts, styles and pictures that the pages use."""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class PackageFiles(StaticFiles):
    """Static files of the package. Their address holds a digest of the content, so browsers may cache them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file, with how long it may be cached."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if b"v=" in scope["query_string"] else "no-cache"
        return response
