"""Exports of label maps in the formats of other tools; each has a writer that streams frame by frame."""
