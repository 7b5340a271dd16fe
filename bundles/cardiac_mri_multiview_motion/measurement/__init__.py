"""What is read off a motion: carried labels, volumes, strain."""
