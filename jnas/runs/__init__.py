"""Programs: search, retrain, and the report on what came out."""
