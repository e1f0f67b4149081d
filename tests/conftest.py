"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# The same examples every time, however slow the machine: a test that fails does so for everyone. Only here is said what may take long.
settings.register_profile("palate", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("palate")
