"""What people were asked and what they answered, in a database (SQLite or PostgreSQL). Needs the extra `label`."""
