"""The jobs on videos: fit and segment them, paint, export and check what came of it."""
