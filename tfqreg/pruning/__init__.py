"""Schedules of the sparsity, and thresholds by magnitude."""
