"""One file a job: the only place where stages are put in an order."""
