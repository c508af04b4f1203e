"""Scripts that measure, and render what they measured into results/ and the README."""
