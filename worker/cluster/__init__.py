"""Several workers on one PostgreSQL: each screens what it has leased, one takes films in."""
