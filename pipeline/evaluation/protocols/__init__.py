"""The published evaluation protocols: data set, callables and `reports.Run` in, summary out.

The callables, see `predictors`, are the method that is measured.
"""
