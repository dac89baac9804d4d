"""How far results lie apart, how fast they come, and how good they are."""
