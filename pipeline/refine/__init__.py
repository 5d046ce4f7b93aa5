"""Refinement of label maps along picture edges: the fully connected CRF, and GrabCut."""
