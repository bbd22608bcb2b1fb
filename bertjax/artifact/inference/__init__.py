"""Latency and throughput of trained models in several runtimes."""
