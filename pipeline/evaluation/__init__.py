"""Measuring against public benchmarks: their loaders, metrics and protocols.

What is measured comes in as small callables, so this package knows nothing of how parts or descriptors are
made: `tasks` joins the two. `metrics` computes figures, `datasets` reads archives as they unpack, `protocols`
says what is compared with what, `reports` writes it down and goes on where a run stopped.
"""
