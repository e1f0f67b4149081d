"""What tests of 4-bit weights and 8-bit optimizer state need."""

from importlib.util import find_spec

import pytest

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: nothing can be quantised")
