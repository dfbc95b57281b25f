"""What the pages draw, a folder for each."""
