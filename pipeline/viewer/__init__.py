"""The viewer: results in the browser, with corrections; a server for one machine and one person."""
