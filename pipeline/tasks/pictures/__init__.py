"""The jobs on pictures, and the looks at descriptors that pictures and videos share."""
