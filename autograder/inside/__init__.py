"""All that runs in the sandbox: a warm parent, and the forks of it that run cells."""
