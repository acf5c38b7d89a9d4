"""What authors of plugins and pipelines test with; it needs pytest, and nothing else of kart does."""
