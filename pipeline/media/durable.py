"""The ground's file functions, under the name that this package knows them by."""

from pipeline.files import output_errors, partial_path, publish, remove, replaced_file, sync, unwritable

__all__ = ["output_errors", "partial_path", "publish", "remove", "replaced_file", "sync", "unwritable"]
