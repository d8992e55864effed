"""Strategies as data: legs, rules, filters, sizing, and the catalogue of them."""
