"""Why a plan is as it is, what would help, what changed: plain data."""
