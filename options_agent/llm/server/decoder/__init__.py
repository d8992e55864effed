"""A small decoder: a transformer that reads a decision prompt token by token and writes the action and its reason.

NumPy plays it; only training (`learning`) needs torch, the extra `options-agent[decoder]`.
"""
