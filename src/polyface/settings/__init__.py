"""What the user said: in files, the environment, keywords and options."""
