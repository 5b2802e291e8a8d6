"""The paper's claims: their files, plans, runs and verdicts."""
