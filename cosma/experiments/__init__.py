"""Many runs: comparisons, sweeps, staircases, and their rows."""
