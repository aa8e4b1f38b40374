"""What people wear and look like: who has what, and how it is painted on the body."""
