"""The sample clip and the script that renders it."""
