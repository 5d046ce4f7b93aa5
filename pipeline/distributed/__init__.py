"""One run on many processes or machines: shards of inputs, who does them, and how they become one result."""
