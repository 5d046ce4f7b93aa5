"""report.html: one page that says what was found; it opens from the disk, with no server and no network."""
