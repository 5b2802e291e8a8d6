"""Where in a sweep this process is, for the bar of the run that it trains."""

sweep = ""  # "run 3/12", shown before the epoch; set by the sweep
