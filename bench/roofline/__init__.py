"""What the machine can do at most, and how near each layer of a plan comes to it."""
