"""How property tests look for examples."""

import os

from hypothesis import settings

# A busy machine is no failure of the code; pytest's own time-out bounds a test.
settings.register_profile("same-examples", deadline=None, derandomize=True)
# For looking further: HYPOTHESIS_PROFILE=search .venv/bin/python -m pytest tests/unit
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same-examples"))
