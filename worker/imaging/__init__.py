"""From bytes to pixels: recognise, decode and prepare films, in processes that may die."""
