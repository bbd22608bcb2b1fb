"""What a trained model weighs, and what it leaves on disk."""
