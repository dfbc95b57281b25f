"""Figures of the project, each a command: `python -m tests.benchmarks.<name>`."""
