"""Runs: the folder on disk (store, log), the process that trains (worker), and who may train when (launcher)."""
