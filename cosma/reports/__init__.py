"""Plans and results for people: terminal text, figures. The only user of plotting libraries."""
