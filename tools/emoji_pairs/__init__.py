"""Builds the emoji-pairs release from npm packages: see `tools/README.md`."""
