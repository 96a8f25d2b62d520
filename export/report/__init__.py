"""The report: where the bytes of a model went, as tables, pictures and one HTML page."""
