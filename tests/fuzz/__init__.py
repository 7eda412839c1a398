"""Programs that look for mistakes by chance, for as long as they are given."""
