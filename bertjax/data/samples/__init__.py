"""Three bundled tasks made from WordNet glosses by `build.py`; WordNet's licence is in `LICENSE-WORDNET.txt`."""
