"""How fast, how large: every figure of docs/PERFORMANCE.md, measured again by `make bench`."""
