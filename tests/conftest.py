"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# How long an example takes says how busy the machine is; nothing here is a timed test.
# CI tries the same examples every time; elsewhere each run explores others.
settings.register_profile("sempairs", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("sempairs")
