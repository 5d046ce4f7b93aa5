"""vidparts: finds the parts of the objects in a video, without training or annotation, and paints them."""

__version__ = "0.1.0"
