"""From the model's input to a decision: network, heat map, guard, thresholds."""
