"""How well the model does on labelled films: figures for scripts, tables and a page for people."""
