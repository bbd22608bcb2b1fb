"""BERT in Flax: its sizes, its layers, and its weights in and out."""
