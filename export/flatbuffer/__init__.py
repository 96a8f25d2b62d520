"""Integer graphs as  files, written and read."""
