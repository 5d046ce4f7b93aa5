"""Results on disk: the workspace of a run, its manifest, its record, its outputs."""
