"""From evidence to a verdict, by the tables of docs/commands.md; and which package fits a guest."""
