"""The settings of a run, as people meet them."""
