"""The packed format: parameters as few bytes, and the file that holds them."""
