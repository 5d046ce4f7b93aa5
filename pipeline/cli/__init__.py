"""The command line: options to tasks, errors to exit codes"""

from pipeline.cli.app import app, main

__all__ = ["app", "main"]
