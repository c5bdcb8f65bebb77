"""Speed and size, as ratios to peers and to a floor measured in the same run."""
