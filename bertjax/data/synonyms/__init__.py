"""WordNet 3.0's synonyms and irregular forms, made by `build.py`; see `LICENSE-WORDNET.txt`."""
