"""What the benchmarks share: networks, data, photographs, and the record of a run."""
