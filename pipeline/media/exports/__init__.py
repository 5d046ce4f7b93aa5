"""Exports of label maps in the formats of other tools; each has a writer that streams frame by frame.

A writer raises OutputError where its files can't be written, and InputError where the label store is damaged.
"""
