"""Commands a person types, one module per group; `main` collects them."""
