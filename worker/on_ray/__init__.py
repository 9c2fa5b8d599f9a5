"""Backfill on a cluster with Ray; the only package that imports it.

Ray places processes and starts them again when they or their nodes die. What is to be done, and
what is done, stands in the database alone: actors lease films there and finish them there.
"""

import os

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported: it would report its use
