"""What happens to an image: which package fits, plan, inject, verify."""
