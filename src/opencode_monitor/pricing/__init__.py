"""What a call costs: one meaning of the token buckets, the price book, and the formula."""
