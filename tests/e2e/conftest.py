"""Pages of servers in a real browser, as the tests of pages open them."""

from tests.web.conftest import visit

__all__ = ["visit"]
