"""What a run takes, before it begins: one workload, from which memory, disk and time follow"""
