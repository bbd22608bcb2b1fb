"""Trained models for other runtimes, each compared with the model that it was written from."""
