"""The layout of a container: what both directions read and write."""
