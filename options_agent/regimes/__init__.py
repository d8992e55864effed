"""What the weather was: causal features of prices and chains, and the regimes labelled from them."""
