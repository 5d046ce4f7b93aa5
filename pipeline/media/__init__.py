"""Reading inputs, writing clips, label stores and exports; the only user of PyAV and zarr"""
