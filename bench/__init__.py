"""Measured numbers: DESIGN's budgets on this machine. Read README.md first; ``python -m bench`` runs all."""
