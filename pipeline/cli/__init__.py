"""The command line: options to tasks, errors to exit codes. It imports a task only when its command runs."""

from pipeline.cli.app import app, main

__all__ = ["app", "main"]
