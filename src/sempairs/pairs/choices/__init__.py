"""Which of an anchor's valid partners are drawn, one way a file; see `pairs.choices.base`."""
