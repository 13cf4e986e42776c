"""What was found, for people and programs: text, JSON and a page, from a report alone."""
