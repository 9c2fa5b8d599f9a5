"""Measurements that anyone can repeat; not shipped. Run as modules: `python -m bench.heatmaps`."""
