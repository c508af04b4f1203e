"""Search over all schedules."""
