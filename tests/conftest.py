"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is; nothing here is a timed test.
settings.register_profile("sempairs", deadline=None)
settings.load_profile("sempairs")
