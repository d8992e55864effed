"""The language model's place in the desk: prompts, training data, and later its client and spend."""
