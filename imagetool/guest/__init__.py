"""What an image holds: installations, facts and evidence."""
