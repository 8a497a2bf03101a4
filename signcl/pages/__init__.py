"""HTML pages: the report of runs, the explorer of features, the server, and the page for choosing frames."""
