"""Compiled kernels of the CRF and of blending, each beside a plain twin; README.md says what each computes"""
