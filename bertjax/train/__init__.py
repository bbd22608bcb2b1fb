"""The compiled training of many trials at once."""
