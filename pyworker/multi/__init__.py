"""Several nodes from one command line: the options of each, and their life."""
