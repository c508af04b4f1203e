"""Machine and graph to what can run: specs, fusion."""
