"""What it takes until a network runs: time and memory."""
