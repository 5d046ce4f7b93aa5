"""Made-up scenes, and the training of the backbone that ships with the package on them."""
