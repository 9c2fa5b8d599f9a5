"""Train, validate across domains, calibrate and write a model folder."""
