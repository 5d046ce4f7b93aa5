"""Refinement of label maps by a CRF or GrabCut; the only user of pydensecrf and of GrabCut."""
