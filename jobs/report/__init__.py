"""What was found, for people: tables, charts and pages that need nothing else."""
