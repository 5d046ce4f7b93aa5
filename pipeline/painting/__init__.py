"""Palettes and the styles that parts are painted in."""
