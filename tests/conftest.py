"""Settings of all tests."""

from hypothesis import settings

# The same examples every time, however slow the machine: a test that fails does so for everyone.
settings.register_profile("palate", deadline=None, derandomize=True)
settings.load_profile("palate")
