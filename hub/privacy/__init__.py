"""The rights of the people whose data is here: to have it, to have it gone, and that it stays gone."""
