"""Words that every room uses: names, errors, arrays, records, the registry."""
