"""Runs: work that takes steps for long, may be killed at any moment, and goes on bit for bit.

engine: takes the steps of a `Work`, keeps its states, and stops it. folder: what lies where, and when a run
may start or go on. checkpoint: states on disk. trackers: the record of numbers. signals: Ctrl-C. processes:
several as one. sessions: what machine and code worked on a run. Nothing here knows what is trained.
"""
