"""What people see: overlays, a page per film, the worklist. Derived data, rendered at will."""
