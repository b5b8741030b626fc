"""What the framework is measured against, written by hand."""
