"""Networks, their weights and their cards. Knows torch; never imports `worker`."""
