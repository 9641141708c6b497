"""From records to rows: map, load, price and aggregate, one batch of sessions in one transaction."""
