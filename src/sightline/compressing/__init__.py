"""What every compression method builds on: the images it may see, fine-tuning, and the judge of its result."""
