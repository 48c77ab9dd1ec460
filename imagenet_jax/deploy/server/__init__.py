"""An HTTP server in front of a trained model."""
