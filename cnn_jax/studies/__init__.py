"""Studies of many runs: compare, report, advise and sweep."""
