"""The demonstration clip and the script that draws it."""
