"""Compressions as pure transformations; each is exactly the identity when it is off."""
