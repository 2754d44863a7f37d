"""Conditions of the equipment as alerts: they open, they resolve, and never touch what the law cares for."""
