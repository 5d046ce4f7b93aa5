"""Loaders of public data sets, as their archives unpack; annotations are read when they are asked for."""
