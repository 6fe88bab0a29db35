"""Does another implementation compute the same? Named cases, staged results, an exact comparison, a report in words."""
