"""Benchmarks: speed, presets, CRF and bundled backbone; each one's last line is JSON."""
