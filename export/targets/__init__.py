"""What a target accepts: rules as data, and Arm's compiler for its NPUs."""
