"""Reading inputs and writing clips and label maps; the only user of PyAV and zarr."""
