"""The published protocols, written against small callables that say what is measured.

A protocol takes a data set, one or two callables and a `reports.Run`, and returns a `reports.Summary`.
"""
