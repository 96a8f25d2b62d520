"""Where the bytes of a container went."""
