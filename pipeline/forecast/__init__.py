"""What a run takes: memory, disk and time, before it begins."""
