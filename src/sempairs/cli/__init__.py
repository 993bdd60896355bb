"""The command line: one file a verb; each composes the stages."""
