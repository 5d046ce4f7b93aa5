"""Training of the bundled backbone on synthetic scenes; runs from a checkout only."""
