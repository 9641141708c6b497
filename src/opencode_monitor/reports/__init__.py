"""What the spend means: judgements of it as frozen values. The arithmetic is pure; who has a session asks `reports.reading`."""
