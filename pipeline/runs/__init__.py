"""Results on disk: workspace, manifest, record, outputs, and the passes that write them"""
