"""Which two images form a positive pair."""
