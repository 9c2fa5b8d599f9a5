"""Screen: a screening worker for chest radiographs. Decision support, not a diagnosis."""

__version__ = "0.1.0"
