"""Figures of quality; each says what it does with empty masks, missing parts and invisible points."""
