"""The laboratory: what a compiled step costs, on attached devices or on described ones."""
