"""What people look at: the report of runs, the explorer of features, the server, the page to choose frames."""
