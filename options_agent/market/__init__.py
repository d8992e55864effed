"""Where quotes come from: sources behind one protocol, and the harvest that writes them to the lake."""
