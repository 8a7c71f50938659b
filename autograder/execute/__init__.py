"""Stage 2, on the host: runs a job in a sandbox; bytes in, bytes out."""
