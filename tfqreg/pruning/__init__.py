"""What prunes weights and bases, the schedules and thresholds it uses, and what removes units."""
