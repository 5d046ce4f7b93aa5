"""Compiled code: the CRF's inference and the blending of colours. README.md says what each kernel computes."""
