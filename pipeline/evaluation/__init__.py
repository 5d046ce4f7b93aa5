"""Evaluation on public benchmarks: data set loaders, metrics and protocols.

`datasets` loads annotations, `metrics` computes scores, `protocols` says what is compared with what, `reports` writes
CSV files and resumes stopped runs. The method that is measured comes in as callables, which `tasks.evaluate` makes.
"""
