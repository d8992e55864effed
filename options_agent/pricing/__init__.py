"""Black-76 in coin and in USD, greeks by the exchange's conventions, implied volatility, the smile."""
