"""Where the bytes of a container went, and what other codes would take."""
