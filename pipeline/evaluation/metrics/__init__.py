"""Metrics; each documents how it treats empty masks, missing parts and invisible points."""
