"""Clustering with the elbow, saliency votes, the codebook and the assignment; the only user of FAISS."""
