"""What is measured, in turns in one run: the whole against the paper's computation, and the CRF alone."""
