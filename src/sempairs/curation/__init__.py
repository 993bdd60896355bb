"""People judging pairs: an append-only event log, queues, agreement and a page on loopback."""
