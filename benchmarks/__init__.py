"""A command for every published figure; results lie beside it as JSON with machine, commit and seeds."""
