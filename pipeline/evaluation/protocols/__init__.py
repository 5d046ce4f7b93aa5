"""The published evaluation protocols: data set, callables and `reports.Run` in, summary out.

The callables, see `predictors`, are the method that is measured. A run's limit is a number of the data set's items,
such as clips or sets of pictures, where a protocol doesn't say another thing.
"""
