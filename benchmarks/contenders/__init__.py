"""Who takes part: one module for each library, imported in a child process of its own only."""
