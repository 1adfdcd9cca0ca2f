"""What several tests need: processes that start at once, run folders, a cluster, pictures."""
