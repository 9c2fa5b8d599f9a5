"""`screen serve`: a local web page over the database, and the door for platforms."""
