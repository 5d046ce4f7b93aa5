"""Loaders of public data sets in the layout of their archives; annotations are read lazily."""
