"""The layout of a container: what both directions read and write, field by field. See SPEC.md."""
