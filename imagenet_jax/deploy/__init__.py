"""From a trained model to an application: files that run without this package."""
